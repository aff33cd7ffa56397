# Airflow with the provider of client/airflow. DAGs are mounted, not copied: compose.yaml.
#
#   docker build -f compose/airflow.Dockerfile -t headwater-airflow:local .
ARG AIRFLOW_IMAGE=apache/airflow:3.3.2

FROM ${AIRFLOW_IMAGE}
COPY client/airflow /opt/airflow/provider
# Airflow's own version beside it, so that pip does not change it.
RUN pip install --no-cache-dir "apache-airflow==${AIRFLOW_VERSION}" /opt/airflow/provider
