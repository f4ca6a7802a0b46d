"""The memory that a proof takes does not grow with the image: measured from outside, in a process of its own."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zlib
from pathlib import Path

import pytest

LIMIT = 150 << 20  # bytes
BLOCK = 64 << 20

# Prints the peak of the resident set in bytes, then the codes that were found. The peak is VmHWM (proc(5)), which
# starts anew with exec; getrusage(2) would hand down the peak of the test run that forked it.
PRELUDE = """
import hashlib, sys, tarfile
from pathlib import Path
from verify_images import *
from polyarch.oci import model
from polyarch.verify import scan, verify

def big(blob, diff_id, media_type):
    spec = Spec(layers=[layer(*root()), Layer(blob, b"", media_type)])
    spec.config = lambda c: c["rootfs"]["diff_ids"].__setitem__(1, diff_id)
    return image(spec)

def say(found):
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    print(int(status["VmHWM"].split()[0]) * 1024, *found)
"""
BIG = """
blob = open(sys.argv[1], "rb").read()
report = verify(big(blob, sys.argv[2], model.OCI_LAYER_GZIP))
say(violation.code for violation in report.violations)
"""
BOMB = """
import zstandard
packer = zstandard.ZstdCompressor().compressobj()
info = tarfile.TarInfo("zeros"); info.size = 64 << 30
blob = packer.compress(info.tobuf(tarfile.GNU_FORMAT))
blob += b"".join(packer.compress(bytes(1 << 20)) for _ in range(5 << 10)) + packer.flush()
report = verify(big(blob, "sha256:" + "0" * 64, model.OCI_LAYER_ZSTD))
say(violation.code for violation in report.violations)
"""
MANY = """
def chunks():
    for number in range(400_000):
        info = tarfile.TarInfo(f"usr/share/some/folder/with/a/name/{number:09}/file-{number}.txt")
        yield info.tobuf(tarfile.USTAR_FORMAT)
    yield bytes(1024)
found = scan(chunks())
say(fault.code for fault in found.faults)
assert len(found.names) == 400_000
"""


def measure(script: str, *arguments: str) -> tuple[int, list[str]]:
    here = Path(__file__).parent
    done = subprocess.run(
        [sys.executable, "-c", PRELUDE + script, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": f"{here}:{here.parents[2] / 'src'}"},
    )
    assert done.returncode == 0, done.stderr
    peak, *codes = done.stdout.split()
    return int(peak), codes


@pytest.mark.slow
def test_a_layer_of_2_gb_takes_no_more_than_150_mb(tmp_path: Path) -> None:
    info = tarfile.TarInfo("zeros")
    info.size = 2 << 30
    header = info.tobuf(tarfile.GNU_FORMAT)
    packer = zlib.compressobj(1, wbits=31)
    plain = hashlib.sha256()
    path = tmp_path / "layer"
    with path.open("wb") as out:
        for piece in (header, *([bytes(BLOCK)] * ((2 << 30) // BLOCK)), bytes(1024)):
            plain.update(piece)
            out.write(packer.compress(piece))
        out.write(packer.flush())
    peak, codes = measure(BIG, str(path), f"sha256:{plain.hexdigest()}")
    assert codes == []
    assert peak < LIMIT


@pytest.mark.slow
def test_a_decompression_bomb_is_stopped_within_150_mb() -> None:
    pytest.importorskip("zstandard")
    peak, codes = measure(BOMB)
    assert codes == ["layer-bomb"]
    assert peak < LIMIT


@pytest.mark.slow
def test_four_hundred_thousand_files_take_no_more_than_150_mb() -> None:
    peak, codes = measure(MANY)
    assert codes == []
    assert peak < LIMIT
