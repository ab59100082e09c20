"""Matrices in parts in folders: the same matrix back, in any number of parts, or an error that says why not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
import torch

from tests.helpers.rank_programs import matrix
from torch_sla.errors import ArgumentError, RankError
from torch_sla.linalg import DSparseTensor, SparseTensor
from torch_sla.linalg.distributed.files import (
    load_distributed_as_sparse,
    load_dsparse,
    load_metadata,
    load_partition,
    load_sparse_as_partition,
    save_distributed,
    save_dsparse,
)
from torch_sla.linalg.distributed.processes import Processes
from torch_sla.linalg.sparse.files import save_sparse

if TYPE_CHECKING:
    from pathlib import Path

    from tests.helpers.ranks import Ranks


def dense(D: DSparseTensor) -> torch.Tensor:
    return D.to_sparse_tensor().to_dense()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.complex128])
@pytest.mark.parametrize("parts", [1, 3, 4, 9])
def test_what_is_read_is_what_was_written(tmp_path: Path, parts: int, dtype: torch.dtype) -> None:
    A, points = matrix("irregular", dtype)
    save_distributed(A, tmp_path, 4, coords=points, metadata={"by": "test"})
    D = load_dsparse(tmp_path, parts)
    assert D.num_partitions == parts
    assert D.dtype == dtype
    assert torch.equal(dense(D), A.to_dense())
    assert torch.equal(load_distributed_as_sparse(tmp_path).to_dense(), A.to_dense())
    header = load_metadata(tmp_path)
    assert header["metadata"] == {"by": "test"}
    assert (header["shape"], header["num_partitions"]) == ([150, 150], 4)
    assert header["nnz"] == A.pattern.nnz_csr


def test_rows_stay_with_their_neighbours(tmp_path: Path) -> None:
    A, points = matrix("irregular")
    save_distributed(A, tmp_path, 6, coords=points, partition_method="coordinates")
    before = [set(part.owned_nodes.tolist()) for part in load_dsparse(tmp_path)]
    after = [set(part.owned_nodes.tolist()) for part in load_dsparse(tmp_path, 3)]
    assert after == [before[0] | before[1], before[2] | before[3], before[4] | before[5]]


def test_near_nullspace_travels_along(tmp_path: Path) -> None:
    A, points = matrix("irregular")
    D = DSparseTensor.from_sparse_tensor(A, 3, near_nullspace=points)
    save_dsparse(D, tmp_path)
    for parts in (3, 2, 5):
        E = load_dsparse(tmp_path, parts)
        assert E.near_nullspace is not None
        assert torch.equal(E.near_nullspace, points[E.layout.names])


def test_a_part_for_study(tmp_path: Path) -> None:
    A, _ = matrix("irregular")
    save_distributed(A, tmp_path / "parts", 3)
    part = load_partition(tmp_path / "parts", 1, 3)
    assert part.partition_id == 1
    assert not part.connected
    save_sparse(A, tmp_path / "a.npz")
    other = load_sparse_as_partition(tmp_path / "a.npz", 1, 3)
    assert torch.equal(part.owned_nodes, other.owned_nodes)
    with pytest.raises(ArgumentError, match="give `rank` and `world_size`"):
        load_sparse_as_partition(tmp_path / "a.npz")


def test_a_new_matrix_replaces_the_old_one(tmp_path: Path) -> None:
    A, _ = matrix("irregular")
    save_distributed(A, tmp_path, 5)
    B = SparseTensor.from_pattern(A.pattern.slots, 2.0 * A.csr_values)
    save_distributed(B, tmp_path, 2)
    assert torch.equal(load_distributed_as_sparse(tmp_path).to_dense(), 2.0 * A.to_dense())
    assert len(list(tmp_path.iterdir())) == 3


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        ("flip", "part 1 .* is damaged: the checksum"),
        ("remove", "part 1 .* is missing"),
        ("version", "format version 99"),
        ("other", "no manifest of a matrix in parts"),
        ("cut", "is damaged"),
    ],
)
def test_damage_is_named(tmp_path: Path, harm: str, message: str) -> None:
    A, _ = matrix("tiny")
    save_distributed(A, tmp_path, 2)
    part, manifest = sorted(tmp_path.glob("part-*"))[1], tmp_path / "manifest.json"
    header: dict[str, Any] = json.loads(manifest.read_text())
    match harm:
        case "flip":
            data = bytearray(part.read_bytes())
            data[len(data) // 2] ^= 1
            part.write_bytes(bytes(data))
        case "remove":
            part.unlink()
        case "version":
            manifest.write_text(json.dumps({**header, "version": 99}))
        case "other":
            manifest.write_text(json.dumps({**header, "format": "something"}))
        case "cut":
            manifest.write_text(manifest.read_text()[:40])
    with pytest.raises(ArgumentError, match=message):
        load_dsparse(tmp_path)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="holds no matrix in parts"):
        load_dsparse(tmp_path)


def written(group: Any, folder: str) -> None:
    A, points = matrix("irregular")
    D = DSparseTensor.from_global_distributed(
        A.values, A.row_indices, A.col_indices, (150, 150), coords=points, device_mesh=group
    )
    save_dsparse(D, folder)


def read(group: Any, folder: str) -> torch.Tensor:
    D = load_dsparse(folder, comm=Processes(group))
    return (D @ D.vector(torch.arange(150, dtype=torch.float64))).full_tensor()


@pytest.mark.distributed
def test_three_processes_write_and_two_read(ranks: Ranks, tmp_path: Path) -> None:
    A, _ = matrix("irregular")
    ranks.run(3, written, str(tmp_path))
    assert len(list(tmp_path.glob("part-*"))) == 3
    wanted = A @ torch.arange(150, dtype=torch.float64)
    for size in (2, 4):
        for found in ranks.run(size, read, str(tmp_path)):
            assert torch.allclose(found, wanted, rtol=1e-13)


def put_together(group: Any) -> DSparseTensor:
    """Three parts on two processes, which have every other entry each and send them to where they belong."""
    comm, (A, points) = Processes(group, 3), matrix("irregular")
    share = torch.arange(len(A.values)) % comm.world == comm.rank
    entries = A.values[share], A.row_indices[share], A.col_indices[share]
    owned = [torch.arange(50 * p, 50 * (p + 1)) for p in comm.held]
    near = points[torch.cat(owned)]
    return DSparseTensor.from_local(*entries, (150, 150), owned, comm=comm, near_nullspace=near)


def kept_in_three(group: Any, folder: str) -> str:
    """Write where the second process cannot, then where it can; return what each says."""
    D = put_together(group)
    said = "nothing"
    try:
        save_dsparse(D, f"{folder}/file" if D.comm.rank == 1 else f"{folder}/parts")
    except (OSError, RankError) as error:
        said = f"{type(error).__name__}: {error}"
    save_dsparse(D, f"{folder}/parts")
    return said


@pytest.mark.distributed
def test_entries_on_their_way_are_waited_for_before_one_may_fail(
    ranks: Ranks, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    said = ranks.run(2, kept_in_three, str(tmp_path))
    assert said[0].startswith("RankError: process 1 cannot do its part")
    assert said[1].startswith("NotADirectoryError")
    A, _ = matrix("irregular")
    assert torch.allclose(load_distributed_as_sparse(tmp_path / "parts").to_dense(), A.to_dense())


def modes(group: Any, folder: str) -> list[int]:
    D = load_dsparse(folder, comm=Processes(group))
    assert D.near_nullspace is not None
    return [D.layout.n_held, *D.near_nullspace.shape]


@pytest.mark.distributed
def test_a_process_without_rows_has_a_nullspace_too(ranks: Ranks, tmp_path: Path) -> None:
    A, points = matrix("tiny")
    save_dsparse(DSparseTensor.from_sparse_tensor(A, 2, near_nullspace=points), tmp_path)
    found = ranks.run(4, modes, str(tmp_path))
    assert sorted(found) == [[0, 0, 2], [1, 1, 2], [1, 1, 2], [1, 1, 2]]


def kept(group: Any, folder: str) -> str:
    """Write where the folder of the second process is a file; return what each says."""
    rank = torch.distributed.get_rank(group)
    try:
        written(group, f"{folder}/file" if rank == 1 else f"{folder}/parts")
    except (OSError, RankError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


@pytest.mark.distributed
def test_where_one_process_cannot_write_none_waits_for_it(ranks: Ranks, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    said = ranks.run(2, kept, str(tmp_path))
    assert said[0].startswith("RankError: process 1 cannot do its part")
    assert said[1].startswith("NotADirectoryError")
    assert not (tmp_path / "parts" / "manifest.json").exists()
