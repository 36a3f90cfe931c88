"""Generate the Python stubs, Envoy's descriptor set and the OpenAPI document from `protos/`.

Run by `make proto`. The output is committed; `make lint` fails when it differs
from what this script writes.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from importlib.resources import files
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROTOS = ROOT / "protos"
THIRD_PARTY = ROOT / "third_party" / "protos"
DESCRIPTORS = ROOT / "deploy" / "envoy" / "pointsman.binpb"
OPENAPI = ROOT / "deploy" / "envoy" / "openapi.json"

# What the transcoder needs beyond our own files to write typed JSON errors.
ERROR_DETAILS = ("google/rpc/status.proto", "google/rpc/error_details.proto")
# No package ships Python stubs of these.
VALIDATE = "buf/validate/validate.proto"


def protoc(*arguments: str) -> None:
    """Run the pinned protoc with its well-known types on the path."""
    well_known = str(files("grpc_tools") / "_proto")
    roots = [f"-I{PROTOS}", f"-I{THIRD_PARTY}", f"-I{well_known}"]
    subprocess.run([sys.executable, "-m", "grpc_tools.protoc", *roots, *arguments], check=True)


def generate_python(sources: list[str]) -> None:
    """Replace the generated packages by fresh ones, with `py.typed` in each root."""
    binaries = Path(sys.executable).parent
    for package in ("pointsman", "buf"):
        shutil.rmtree(HERE / package, ignore_errors=True)
    protoc(
        f"--plugin=protoc-gen-mypy={binaries / 'protoc-gen-mypy'}",
        f"--python_out={HERE}",
        f"--mypy_out=quiet:{HERE}",
        *sources,
        VALIDATE,
    )
    services = [source for source in sources if source.endswith("_service.proto")]
    protoc(
        f"--plugin=protoc-gen-mypy_grpc={binaries / 'protoc-gen-mypy_grpc'}",
        f"--grpc_python_out={HERE}",
        f"--mypy_grpc_out=quiet:{HERE}",
        *services,
    )
    for package in ("pointsman", "buf"):
        for folder in (HERE / package, *(p for p in (HERE / package).rglob("*") if p.is_dir())):
            (folder / "__init__.py").touch()
        (HERE / package / "py.typed").touch()


def generate_descriptors(sources: list[str]) -> None:
    """Write the descriptor set that Envoy transcodes JSON with."""
    protoc("--include_imports", f"--descriptor_set_out={DESCRIPTORS}", *sources, *ERROR_DETAILS)


def generate_openapi(sources: list[str]) -> None:
    """Write the OpenAPI document that the edge serves."""
    # It reads rules by the stubs that were just made.
    from google.protobuf.descriptor_pb2 import FileDescriptorSet  # noqa: PLC0415
    from openapi.document import document  # noqa: PLC0415

    with tempfile.NamedTemporaryFile() as file:
        protoc("--include_imports", "--include_source_info", f"--descriptor_set_out={file.name}", *sources)
        files = FileDescriptorSet.FromString(Path(file.name).read_bytes())
    OPENAPI.write_text(json.dumps(document(files), indent=1) + "\n")


def main() -> None:
    """Generate everything that is made from the protos."""
    sources = sorted(str(p.relative_to(PROTOS)) for p in PROTOS.rglob("*.proto"))
    generate_python(sources)
    generate_descriptors(sources)
    generate_openapi(sources)


if __name__ == "__main__":
    main()
