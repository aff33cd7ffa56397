"""Makes src/headwater_airflow/engine from proto/protos/engine.

python tools/generate_stubs.py

Needs grpcio-tools 1.66.2, no newer: generated code refuses a grpcio or protobuf that is older than its generator, so an
old generator is what lets users keep the versions that their Airflow came with.

    pip install grpcio-tools==1.66.2 "setuptools<81"

What was generated from what stands in manifest.json; tests/unit/test_stubs.py fails when a .proto has changed since.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

GENERATOR = "1.66.2"
SERVICES = ("query", "ingest")
HERE = pathlib.Path(__file__).resolve().parents[1]
PROTOS = HERE.parents[1] / "proto" / "protos" / "engine"
PACKAGE = "headwater_airflow/engine"
OUT = HERE / "src" / PACKAGE


def fingerprint(proto: str) -> str:
    """Of what a .proto declares: comments and spacing do not matter."""
    return hashlib.sha256(" ".join(re.sub(r"//.*", "", proto).split()).encode()).hexdigest()


def digest(path: pathlib.Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def manifest(out: pathlib.Path = OUT, protos: pathlib.Path = PROTOS) -> dict[str, object]:
    """What the manifest says when everything is up to date."""
    return {
        "generator": f"grpcio-tools {GENERATOR}",
        "protos": {f"{name}.proto": fingerprint((protos / f"{name}.proto").read_text()) for name in SERVICES},
        "stubs": {path.name: digest(path) for path in sorted(out.glob("*_pb2*.py*"))},
    }


def main() -> None:
    found = importlib.metadata.version("grpcio-tools")
    if found != GENERATOR:
        sys.exit(f"generate_stubs: grpcio-tools {found} is installed; {GENERATOR} is needed, see the text of this file")
    with tempfile.TemporaryDirectory() as folder:
        # In a folder named as the package, so that the generated modules import one another by it, and the files have
        # names of their own in protobuf's registry, which all of a process's libraries share.
        source = pathlib.Path(folder, PACKAGE)
        source.mkdir(parents=True)
        for name in SERVICES:
            shutil.copy(PROTOS / f"{name}.proto", source)
        out = HERE / "src"
        for old in OUT.glob("*_pb2*.py*"):
            old.unlink()
        OUT.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "grpc_tools.protoc", f"-I{folder}", f"-I{well_known_types()}"]
        outputs = [f"--python_out={out}", f"--pyi_out={out}", f"--grpc_python_out={out}"]
        subprocess.run([*command, *outputs, *(f"{PACKAGE}/{name}.proto" for name in SERVICES)], cwd=folder, check=True)
    (OUT / "__init__.py").write_text('"""Generated from proto/protos/engine by tools/generate_stubs.py."""\n')
    (OUT / "manifest.json").write_text(json.dumps(manifest(), indent=2) + "\n")


def well_known_types() -> pathlib.Path:
    import grpc_tools  # type: ignore[import-not-found]

    return pathlib.Path(grpc_tools.__file__).parent / "_proto"


if __name__ == "__main__":
    main()
