"""Arrays of a file that are views of it, and files that are damaged."""

import numpy as np
import pytest

from genrec.errors import UserError
from genrec.storage.files import load_arrays, mapped_arrays, save_arrays

ARRAYS = {
    "items": np.arange(7, dtype=np.int32),
    "vectors": np.arange(12, dtype=np.float32).reshape(3, 4),
    "turned": np.asfortranarray(np.arange(6).reshape(2, 3)),
    "none": np.zeros(0, np.int64),
    "number": np.array(5),
    "is_so": np.array([True, False]),
}


def test_mapped_arrays_are_those_that_are_loaded(tmp_path):
    save_arrays(ARRAYS, tmp_path / "a.npz")
    mapped, loaded = mapped_arrays(tmp_path / "a.npz"), load_arrays(tmp_path / "a.npz")
    assert list(mapped) == list(loaded) == list(ARRAYS)
    for name, array in loaded.items():
        assert mapped[name].dtype == array.dtype
        np.testing.assert_array_equal(mapped[name], array)


def test_mapped_arrays_cannot_be_written_to(tmp_path):
    save_arrays(ARRAYS, tmp_path / "a.npz")
    with pytest.raises(ValueError, match="read-only"):
        mapped_arrays(tmp_path / "a.npz")["items"][0] = 1


def test_a_compressed_file_is_read_whole(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", items=np.arange(5))
    assert mapped_arrays(tmp_path / "a.npz")["items"].tolist() == [0, 1, 2, 3, 4]


def test_a_changed_byte_is_found(tmp_path):
    save_arrays(ARRAYS, tmp_path / "a.npz")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    content[content.index(ARRAYS["vectors"].tobytes())] ^= 1
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(UserError, match="no sound file of numpy arrays .*CRC-32 for file 'vectors.npy'"):
        mapped_arrays(tmp_path / "a.npz")


def test_objects_are_refused(tmp_path):
    np.savez(tmp_path / "a.npz", items=np.array([{}], object))
    with pytest.raises(UserError, match="no sound file of numpy arrays .*allow_pickle=False"):
        mapped_arrays(tmp_path / "a.npz")
