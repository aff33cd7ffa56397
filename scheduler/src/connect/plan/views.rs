//! Temporary views of DataFrames, and relations that stand for themselves: what they name put in.

use super::super::sessions::Session;
use super::expression::required;
use crate::session::Session as SqlSession;
use headwater_proto::error::{Error, Result};
use headwater_proto::spark::relation::RelType;
use headwater_proto::spark::{self, Relation};
use prost::Message;
use std::sync::Arc;

/// A relation with the temporary views that it names and the rows that were uploaded for it put in: it means the same
/// in a session that has neither.
///
/// # Errors
/// What cannot be put in, by name; uploads that are gone.
pub async fn inlined(session: &Arc<Session>, relation: &Relation) -> Result<Relation> {
    let sql = session.sql();
    let mut relation = relation.clone();
    let mut uploads = vec![];
    put_in(&mut relation, &sql, &mut uploads)?;
    for upload in uploads {
        let local = match &upload {
            Upload::Whole(hash) => cached_local(session, hash).await?,
            Upload::Chunks(chunked) => {
                let (mut data, schema) = chunked_local(session, chunked).await?;
                if data.len() > 1 {
                    return Err(Error::invalid(
                        "UNSUPPORTED_FEATURE",
                        "a DataFrame of rows that were sent in several parts cannot be kept: write it to a table first",
                    ));
                }
                spark::LocalRelation { data: data.pop(), schema }
            }
        };
        replace_upload(&mut relation, &upload, &local);
    }
    Ok(relation)
}

/// Rows that were uploaded, which a relation names.
#[derive(Debug, Clone, PartialEq)]
enum Upload {
    Whole(String),
    Chunks(spark::ChunkedCachedLocalRelation),
}

/// The relation of rows that were uploaded.
///
/// # Errors
/// Uploads that are gone or are no rows.
pub async fn cached_local(session: &Arc<Session>, hash: &str) -> Result<spark::LocalRelation> {
    let bytes = session.artifacts().cached(hash).await?;
    spark::LocalRelation::decode(bytes).map_err(|error| {
        Error::invalid("CONNECT_INVALID_PLAN.CANNOT_PARSE", format!("the uploaded rows {hash} cannot be read: {error}"))
    })
}

/// The parts of rows that were uploaded in parts, and their schema.
///
/// # Errors
/// Uploads that are gone.
pub async fn chunked_local(
    session: &Arc<Session>,
    chunked: &spark::ChunkedCachedLocalRelation,
) -> Result<(Vec<Vec<u8>>, Option<String>)> {
    let mut parts = vec![];
    for hash in &chunked.data_hashes {
        parts.push(session.artifacts().cached(hash).await?.to_vec());
    }
    let schema = match &chunked.schema_hash {
        Some(hash) => {
            let bytes = session.artifacts().cached(hash).await?;
            Some(String::from_utf8(bytes.to_vec()).map_err(|_| {
                Error::invalid("CONNECT_INVALID_PLAN.CANNOT_PARSE", format!("the uploaded schema {hash} is no text"))
            })?)
        }
        None => None,
    };
    Ok((parts, schema))
}

/// Puts views in, and collects uploads.
fn put_in(relation: &mut Relation, sql: &SqlSession, uploads: &mut Vec<Upload>) -> Result<()> {
    match relation.rel_type.as_ref() {
        Some(RelType::Read(read)) => {
            if let Some(spark::read::ReadType::NamedTable(table)) = &read.read_type
                && let Ok(parts) = super::frame::parse_name(&table.unparsed_identifier)
                && let Some(view) = sql.plans.get(&parts.join(".").to_lowercase())
            {
                let alias = parts.last().cloned().unwrap_or_default();
                *relation = Relation {
                    common: relation.common.clone(),
                    rel_type: Some(RelType::SubqueryAlias(Box::new(spark::SubqueryAlias {
                        input: Some(Box::new(view.relation.as_ref().clone())),
                        alias,
                        qualifier: vec![],
                    }))),
                };
            }
            return Ok(());
        }
        // The text may name any of them: those that it does name are used.
        Some(RelType::Sql(query)) => {
            let text = query.query.to_lowercase();
            let references: Vec<Relation> = sql
                .plans
                .iter()
                .filter(|(key, _)| text.contains(key.rsplit('.').next().unwrap_or(key)))
                .map(|(_, view)| Relation {
                    common: None,
                    rel_type: Some(RelType::SubqueryAlias(Box::new(spark::SubqueryAlias {
                        input: Some(Box::new(view.relation.as_ref().clone())),
                        alias: view.name.clone(),
                        qualifier: vec![],
                    }))),
                })
                .collect();
            if !references.is_empty() {
                let common = relation.common.clone();
                let root = Some(Box::new(std::mem::take(relation)));
                *relation = Relation {
                    common,
                    rel_type: Some(RelType::WithRelations(Box::new(spark::WithRelations { root, references }))),
                };
            }
            return Ok(());
        }
        Some(RelType::CachedLocalRelation(cached)) => {
            uploads.push(Upload::Whole(cached.hash.clone()));
            return Ok(());
        }
        Some(RelType::ChunkedCachedLocalRelation(chunked)) => {
            uploads.push(Upload::Chunks(chunked.clone()));
            return Ok(());
        }
        Some(RelType::CachedRemoteRelation(remote)) => {
            return Err(Error::invalid(
                "UNSUPPORTED_FEATURE",
                format!(
                    "the checkpointed DataFrame {} belongs to its session: write it to a table first",
                    remote.relation_id
                ),
            ));
        }
        _ => {}
    }
    for input in inputs_mut(relation) {
        put_in(input, sql, uploads)?;
    }
    Ok(())
}

fn replace_upload(relation: &mut Relation, upload: &Upload, local: &spark::LocalRelation) {
    let matches = match (relation.rel_type.as_ref(), upload) {
        (Some(RelType::CachedLocalRelation(cached)), Upload::Whole(hash)) => cached.hash == *hash,
        (Some(RelType::ChunkedCachedLocalRelation(chunked)), Upload::Chunks(other)) => chunked == other,
        _ => false,
    };
    if matches {
        relation.rel_type = Some(RelType::LocalRelation(local.clone()));
        return;
    }
    for input in inputs_mut(relation) {
        replace_upload(input, upload, local);
    }
}

/// The relations that a relation is made of.
pub fn inputs_mut(relation: &mut Relation) -> Vec<&mut Relation> {
    let Some(kind) = relation.rel_type.as_mut() else { return vec![] };
    match kind {
        RelType::Project(r) => one(&mut r.input),
        RelType::Filter(r) => one(&mut r.input),
        RelType::Sort(r) => one(&mut r.input),
        RelType::Limit(r) => one(&mut r.input),
        RelType::Aggregate(r) => one(&mut r.input),
        RelType::Sample(r) => one(&mut r.input),
        RelType::Offset(r) => one(&mut r.input),
        RelType::Deduplicate(r) => one(&mut r.input),
        RelType::SubqueryAlias(r) => one(&mut r.input),
        RelType::Repartition(r) => one(&mut r.input),
        RelType::ToDf(r) => one(&mut r.input),
        RelType::WithColumnsRenamed(r) => one(&mut r.input),
        RelType::ShowString(r) => one(&mut r.input),
        RelType::Drop(r) => one(&mut r.input),
        RelType::Tail(r) => one(&mut r.input),
        RelType::WithColumns(r) => one(&mut r.input),
        RelType::Hint(r) => one(&mut r.input),
        RelType::Unpivot(r) => one(&mut r.input),
        RelType::ToSchema(r) => one(&mut r.input),
        RelType::RepartitionByExpression(r) => one(&mut r.input),
        RelType::MapPartitions(r) => one(&mut r.input),
        RelType::CollectMetrics(r) => one(&mut r.input),
        RelType::Parse(r) => one(&mut r.input),
        RelType::GroupMap(r) => one(&mut r.input),
        RelType::WithWatermark(r) => one(&mut r.input),
        RelType::ApplyInPandasWithState(r) => one(&mut r.input),
        RelType::HtmlString(r) => one(&mut r.input),
        RelType::Transpose(r) => one(&mut r.input),
        RelType::FillNa(r) => one(&mut r.input),
        RelType::DropNa(r) => one(&mut r.input),
        RelType::Replace(r) => one(&mut r.input),
        RelType::Summary(r) => one(&mut r.input),
        RelType::Describe(r) => one(&mut r.input),
        RelType::Crosstab(r) => one(&mut r.input),
        RelType::Cov(r) => one(&mut r.input),
        RelType::Corr(r) => one(&mut r.input),
        RelType::ApproxQuantile(r) => one(&mut r.input),
        RelType::FreqItems(r) => one(&mut r.input),
        RelType::SampleBy(r) => one(&mut r.input),
        RelType::Join(r) => two(&mut r.left, &mut r.right),
        RelType::AsOfJoin(r) => two(&mut r.left, &mut r.right),
        RelType::LateralJoin(r) => two(&mut r.left, &mut r.right),
        RelType::NearestByJoin(r) => two(&mut r.left, &mut r.right),
        RelType::Zip(r) => two(&mut r.left, &mut r.right),
        RelType::SetOp(r) => two(&mut r.left_input, &mut r.right_input),
        RelType::CoGroupMap(r) => two(&mut r.input, &mut r.other),
        RelType::WithRelations(r) => {
            let mut all = one(&mut r.root);
            all.extend(r.references.iter_mut());
            all
        }
        _ => vec![],
    }
}

fn one(input: &mut Option<Box<Relation>>) -> Vec<&mut Relation> {
    input.as_deref_mut().into_iter().collect()
}

fn two<'r>(left: &'r mut Option<Box<Relation>>, right: &'r mut Option<Box<Relation>>) -> Vec<&'r mut Relation> {
    left.as_deref_mut().into_iter().chain(right.as_deref_mut()).collect()
}

/// The relation of a command.
///
/// # Errors
/// `CONNECT_INVALID_PLAN.FIELD_IS_NOT_SET`.
pub fn input_of<'r>(input: Option<&'r Relation>, what: &str) -> Result<&'r Relation> {
    required(input, what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::FrameView;
    use datafusion::logical_expr::LogicalPlanBuilder;

    fn table(name: &str) -> Relation {
        let table = spark::read::NamedTable { unparsed_identifier: name.into(), ..Default::default() };
        let read = spark::Read { read_type: Some(spark::read::ReadType::NamedTable(table)), is_streaming: false };
        Relation { common: None, rel_type: Some(RelType::Read(read)) }
    }

    #[test]
    fn views_are_put_in() {
        let mut sql = SqlSession::default();
        let plan = LogicalPlanBuilder::empty(true).build().expect("plan");
        let view = FrameView { name: "V".into(), plan, relation: Arc::new(table("t")) };
        sql.plans.insert("v".into(), view);
        let limit = spark::Limit { input: Some(Box::new(table("v"))), limit: 1 };
        let mut relation = Relation { common: None, rel_type: Some(RelType::Limit(Box::new(limit))) };
        put_in(&mut relation, &sql, &mut vec![]).expect("is put in");
        let inner = inputs_mut(&mut relation).remove(0);
        let Some(RelType::SubqueryAlias(alias)) = &inner.rel_type else { panic!("{inner:?}") };
        assert_eq!((alias.alias.as_str(), alias.input.as_deref()), ("v", Some(&table("t"))));
        let mut other = table("t");
        put_in(&mut other, &sql, &mut vec![]).expect("is left");
        assert_eq!(other, table("t"));
    }
}
