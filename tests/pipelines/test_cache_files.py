from __future__ import annotations

import errno
import io
import os
import time
import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from cache_entries import KEY, KEYS, arrays, files, never, on_disk, python, same

from softmatch_jax._checks import InputError
from softmatch_jax.pipelines import cache_files
from softmatch_jax.pipelines.feature_cache import CacheConfig, CacheStats, FeatureCache

pytest.importorskip("safetensors")

KINDS = [np.dtype(name) for name in sorted(cache_files._PLAIN)] + [np.dtype(ml_dtypes.bfloat16)]


@pytest.mark.parametrize("shape", [(3, 4), (), (0, 2), (1, 2, 3)], ids=str)
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_every_type_and_shape_comes_back_bit_for_bit(kind, shape, tmp_path):
    given = {"a": np.arange(np.prod(shape)).reshape(shape).astype(kind), "b": np.ones(5, kind)}
    on_disk(tmp_path).put(KEY, given)
    cache = on_disk(tmp_path)
    assert same(cache.get(KEY), given)
    assert cache.stats == CacheStats(hits_disk=1)


def test_layout_and_byte_order_do_not_matter(tmp_path):
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    given = {"t": base.T, "s": base[:, ::2], "e": np.broadcast_to(base[:1], (3, 6)), "b": base.astype(">f4")}
    given["half order"] = np.asfortranarray(base.astype(ml_dtypes.bfloat16))
    for half in (False, True):
        first = on_disk(tmp_path, half=half).get_or_compute(KEY, lambda: given)
        again = on_disk(tmp_path, half=half).get_or_compute(KEY, never)
        assert same(first, again)
        for name, array in given.items():
            np.testing.assert_array_equal(again[name].astype(np.float32), array.astype(np.float32))
        assert again["b"].dtype == np.float32


@pytest.mark.parametrize("wrong", [np.array(["a"]), np.array([None]), np.zeros(2, np.complex128)])
def test_types_that_cannot_be_stored(wrong, tmp_path):
    for cache in (FeatureCache(), on_disk(tmp_path)):
        with pytest.raises(InputError, match=r"array 'x' is .*, which the cache of features cannot store"):
            cache.put(KEY, {"x": wrong})
        with pytest.raises(InputError, match="cannot store"):
            cache.get_or_compute(KEY, lambda: {"x": wrong})
        with pytest.raises(InputError, match="named '__metadata__'"):
            cache.put(KEY, {"__metadata__": np.zeros(2)})
        assert not cache._running
    assert files(tmp_path) == []


def test_one_file_per_entry_that_anyone_can_read(tmp_path):
    from safetensors.numpy import load_file

    FeatureCache(CacheConfig(folder=tmp_path / "deep" / "er")).put(KEY, arrays())
    path = tmp_path / "deep" / "er" / KEY[:2] / f"{KEY}.safetensors"
    assert files(tmp_path) == [path]
    assert same(load_file(path), arrays())


def test_memory_answers_before_the_disk(tmp_path):
    FeatureCache(CacheConfig(folder=tmp_path)).put(KEY, arrays())
    cache = FeatureCache(CacheConfig(folder=tmp_path))
    for _ in range(3):
        assert same(cache.get_or_compute(KEY, never), arrays())
    assert cache.stats == CacheStats(hits_memory=2, hits_disk=1, bytes_in_memory=400)


def test_rounding_to_half_is_there_from_the_first_answer(tmp_path):
    given = {**arrays(), "d": np.linspace(0, 1, 7), "b": np.full(3, 0.3, ml_dtypes.bfloat16)}
    cache = FeatureCache(CacheConfig(folder=tmp_path, half=True))
    first = cache.get_or_compute(KEY, lambda: given)
    assert same(first, cache.get(KEY)) and same(first, on_disk(tmp_path, half=True).get(KEY))
    expected = given["features"].astype(np.float16).astype(np.float32)
    assert same(first, {**given, "features": expected}) and not np.array_equal(expected, given["features"])
    assert files(tmp_path)[0].stat().st_size < 1000


def test_values_beyond_half_are_not_rounded_to_infinity(tmp_path):
    given = {
        "large": np.array([1e5, 0.1], np.float32),
        "infinite": np.array([np.inf, -np.inf, np.nan, 0.1], np.float32),
        "edge": np.array([65504, 65519], np.float32),
        "beyond": np.array([65520, 0.1], np.float32),
    }
    first = on_disk(tmp_path, half=True).get_or_compute(KEY, lambda: given)
    assert same(first, on_disk(tmp_path, half=True).get_or_compute(KEY, never))
    np.testing.assert_array_equal(first["large"], given["large"])
    np.testing.assert_array_equal(first["beyond"], given["beyond"])
    np.testing.assert_array_equal(first["edge"], [65504, 65504])
    np.testing.assert_array_equal(first["infinite"], given["infinite"].astype(np.float16))


def test_half_and_full_precision_are_never_mixed_up(tmp_path):
    on_disk(tmp_path, half=True).put(KEY, arrays())
    full = on_disk(tmp_path)
    assert full.get(KEY) is None
    full.put(KEY, arrays())
    assert same(on_disk(tmp_path).get(KEY), arrays())
    assert not same(on_disk(tmp_path, half=True).get(KEY), arrays())
    half, whole = sorted(files(tmp_path), key=lambda p: p.stat().st_size)
    whole.write_bytes(half.read_bytes())
    assert full.get(KEY) is None and full.stats.damaged == 1


# Damage


def test_no_flipped_byte_is_believed(tmp_path):
    """Whatever byte of the file is damaged, the answer is right or computed anew."""
    given = {"f": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones((2, 1), ml_dtypes.bfloat16)}
    cache = on_disk(tmp_path)
    cache.put(KEY, given)
    [path] = files(tmp_path)
    whole = path.read_bytes()
    for index in range(len(whole)):
        for flip in (1, 0x80):
            broken = bytearray(whole)
            broken[index] ^= flip
            path.write_bytes(broken)
            found = cache.get(KEY)
            assert found is None or same(found, given)
            assert path.exists() == (found is not None)
    assert cache.stats.damaged > 1.9 * len(whole)


def test_no_truncated_file_is_believed(tmp_path):
    cache = on_disk(tmp_path)
    cache.put(KEY, arrays())
    [path] = files(tmp_path)
    whole = path.read_bytes()
    broken = [whole[:length] for length in (0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1)]
    for content in [*broken, whole + b"x", b"\xff" * 500, b"<html>"]:
        path.write_bytes(content)
        assert cache.get(KEY) is None and not path.exists()
    assert cache.stats.damaged == cache.stats.misses == len(broken) + 3


def test_damage_is_mended_by_computing(tmp_path):
    on_disk(tmp_path).put(KEY, arrays())
    [path] = files(tmp_path)
    content = bytearray(path.read_bytes())
    content[-50] ^= 4
    path.write_bytes(content)
    cache = on_disk(tmp_path)
    assert same(cache.get_or_compute(KEY, arrays), arrays())
    assert cache.stats == CacheStats(damaged=1, misses=1)
    assert same(on_disk(tmp_path).get_or_compute(KEY, never), arrays())


def test_an_entry_under_another_key_or_of_another_version(tmp_path, monkeypatch):
    cache = on_disk(tmp_path)
    cache.put(KEY, arrays())
    [path] = files(tmp_path)
    other = tmp_path / KEYS[2][:2] / f"{KEYS[2]}.safetensors"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    assert cache.get(KEYS[2]) is None and not other.exists()
    monkeypatch.setattr(cache_files, "_FORMAT", "2")
    assert cache.get(KEY) is None and cache.stats.damaged == 2


def test_a_safetensors_file_of_another_program(tmp_path):
    from safetensors.numpy import save_file

    path = tmp_path / KEY[:2] / f"{KEY}.safetensors"
    path.parent.mkdir()
    for metadata in (None, {"format": "pt"}, {"format": "1", "key": KEY, "half": "False", "types": "[]"}):
        save_file(arrays(), path, metadata)
        cache = on_disk(tmp_path)
        assert cache.get(KEY) is None and cache.stats.damaged == 1


def test_a_damaged_file_that_cannot_be_removed(tmp_path, monkeypatch):
    cache = on_disk(tmp_path)
    cache.put(KEY, arrays())
    [path] = files(tmp_path)
    path.write_bytes(b"damaged")

    def refuse(*_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "unlink", refuse)
    assert same(cache.get_or_compute(KEY, arrays), arrays())
    assert same(cache.get(KEY), arrays())


def test_a_file_out_of_reach_is_left_alone(tmp_path, monkeypatch):
    """Too many open files, say, is no reason to delete what was stored."""
    cache = on_disk(tmp_path)
    cache.put(KEY, arrays())

    def refuse(_path):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "read_bytes", refuse)
        assert cache.get(KEY) is None
    assert cache.stats == CacheStats(misses=1)
    assert same(cache.get(KEY), arrays())


# Writing that fails


@pytest.mark.parametrize("at", ["write", "fsync", "replace"])
@pytest.mark.parametrize("stop", [KeyboardInterrupt(), SystemExit(1)], ids=["interrupt", "exit"])
def test_being_stopped_while_writing_leaves_nothing(at, stop, tmp_path, monkeypatch):
    cache = on_disk(tmp_path)
    cache.put(KEY, arrays())

    def raise_it(*_args):
        raise stop

    class Torn(io.FileIO):
        def write(self, data):
            super().write(data[: len(data) // 2])
            raise_it()

    with monkeypatch.context() as patched:
        if at == "write":
            patched.setattr(Path, "open", lambda path, mode: Torn(path, mode.replace("b", "")))
        else:
            patched.setattr(cache_files.os, at, raise_it)
        for key in (KEY, KEYS[2]):
            with pytest.raises(type(stop)):
                cache.put(key, arrays(1))
    assert len(files(tmp_path)) == 1
    assert same(cache.get(KEY), arrays()) and cache.get(KEYS[2]) is None


KILLED = """
import os, sys
import numpy as np
from softmatch_jax.pipelines import cache_files
from softmatch_jax.pipelines.feature_cache import CacheConfig, FeatureCache

cache_files.os.fsync = lambda _: os._exit(9)
FeatureCache(CacheConfig(folder=sys.argv[1])).put(sys.argv[2], {"x": np.zeros(1000)})
"""


def test_what_a_killed_process_leaves_is_no_entry_and_goes_in_time(tmp_path):
    killed = python(KILLED, tmp_path, KEY)
    killed.communicate(timeout=60)
    assert killed.returncode == 9
    [left] = files(tmp_path)
    assert left.suffix == ".tmp"
    assert on_disk(tmp_path).get(KEY) is None
    on_disk(tmp_path).put(KEYS[2], arrays())
    assert left.exists(), "another process may be writing it still"
    os.utime(left, (time.time() - 7200,) * 2)
    on_disk(tmp_path).put(KEYS[3], arrays())
    assert not left.exists() and len(files(tmp_path)) == 2


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("at", ["open", "fsync", "replace", "mkdir"])
def test_a_folder_that_cannot_be_written_to_costs_one_warning(code, at, tmp_path, monkeypatch):
    cache = FeatureCache(CacheConfig(folder=tmp_path))

    def refuse(*_args, **_options):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(*((Path, at) if at in ("open", "mkdir") else (cache_files.os, at)), refuse)
    with pytest.warns(RuntimeWarning) as caught:
        assert same(cache.get_or_compute(KEY, arrays), arrays())
    assert len(caught) == 1
    message = str(caught[0].message)
    assert str(tmp_path) in message and os.strerror(code) in message and "choose another folder" in message
    assert message.count(". ") == 0
    cache.put(KEYS[2], arrays())  # a second warning would be an error here
    assert same(cache.get_or_compute(KEY, never), arrays())
    assert cache.stats.write_errors == 2 and files(tmp_path) == []
    monkeypatch.undo()
    cache.put(KEYS[3], arrays())
    assert same(on_disk(tmp_path).get(KEYS[3]), arrays())


def test_a_folder_where_none_can_be_made():
    cache = FeatureCache(CacheConfig(folder=Path("/proc/softmatch_jax")))
    with pytest.warns(RuntimeWarning, match="Features cannot be stored in /proc/softmatch_jax"):
        assert same(cache.get_or_compute(KEY, arrays), arrays())
    assert same(cache.get(KEY), arrays()) and cache.stats.write_errors == 1


def test_warnings_as_errors_leave_the_cache_usable(tmp_path, monkeypatch):
    cache = FeatureCache(CacheConfig(folder=tmp_path))
    monkeypatch.setattr(cache_files.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "full")))
    with warnings.catch_warnings(), pytest.raises(RuntimeWarning):
        warnings.simplefilter("error")
        cache.get_or_compute(KEY, arrays)
    assert not cache._running and same(cache.get_or_compute(KEY, never), arrays())


def test_a_folder_that_is_a_file(tmp_path):
    file = tmp_path / "file"
    file.write_text("here")
    (tmp_path / "nowhere").symlink_to(tmp_path / "missing")
    for folder, named in (
        (file, file),
        (file / "a" / "b", file),
        (tmp_path / "nowhere", tmp_path / "nowhere"),
    ):
        with pytest.raises(InputError, match=f"{named} is not a folder"):
            FeatureCache(CacheConfig(folder=folder))
    assert file.read_text() == "here"


# The bound on the folder


def fill(cache, keys):
    """Entries of about 4 kB, used in the order of ``keys``."""
    for age, key in enumerate(keys):
        cache.put(key, arrays(size=1000))
        path = cache._files.path(key)
        if path.exists():
            os.utime(path, (1e9 + age, 1e9 + age))


def stored(folder):
    return [key in {p.stem for p in files(folder)} for key in KEYS]


def test_the_longest_unused_file_goes_first(tmp_path):
    fill(on_disk(tmp_path), KEYS[:3])
    cache = on_disk(tmp_path, disk_bytes=14_000)
    cache.get(KEYS[0])
    cache.put(KEYS[3], arrays(size=1000))
    assert stored(tmp_path)[:4] == [True, False, True, True]


def test_the_bound_on_the_folder_holds_whatever_comes(tmp_path):
    fill(on_disk(tmp_path), KEYS[:10])
    cache, rng = on_disk(tmp_path, disk_bytes=20_000), np.random.default_rng(0)
    for turn in range(30):
        key = KEYS[rng.integers(20)]
        cache.put(key, arrays(turn, int(rng.integers(0, 4000))))
        assert sum(p.stat().st_size for p in files(tmp_path)) <= 20_000
        assert same(cache.get(key), arrays(turn, cache.get(key)["features"].size))


def test_small_entries_need_few_looks_at_the_folder(tmp_path, monkeypatch):
    looks = []
    listed = cache_files._listed
    monkeypatch.setattr(cache_files, "_listed", lambda folder: looks.append(1) or listed(folder))
    cache = on_disk(tmp_path, disk_bytes=60_000)
    for turn in range(200):
        cache.put(f"{turn:064x}"[::-1], arrays(turn, 10))
    total = sum(p.stat().st_size for p in files(tmp_path))
    assert 45_000 < total <= 60_000 and len(looks) < 40


def test_an_entry_beyond_the_bound_is_not_stored(tmp_path):
    fill(on_disk(tmp_path), KEYS[:2])
    cache = on_disk(tmp_path, disk_bytes=10_000)
    cache.put(KEYS[2], arrays(size=3000))
    on_disk(tmp_path, disk_bytes=0).put(KEYS[3], arrays())
    assert stored(tmp_path)[:4] == [True, True, False, False]


def test_an_entry_that_just_fits_stays(tmp_path):
    fill(on_disk(tmp_path), KEYS[:2])
    size = files(tmp_path)[0].stat().st_size
    on_disk(tmp_path, disk_bytes=size).put(KEYS[2], arrays(size=1000))
    assert stored(tmp_path)[:4] == [False, False, True, False]


def test_only_entries_are_ever_removed(tmp_path):
    """The folder may be one that the user keeps models in."""
    old = (1e9, 1e9)
    kept = ["ab/model.safetensors", "v1/model.safetensors", "a.tmp", "ab/x.tmp", f"zz/{KEYS[9]}.safetensors"]
    for name in kept:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 5000)
        os.utime(path, old)
    cache = on_disk(tmp_path, disk_bytes=5000)
    fill(cache, KEYS[:5])
    assert all((tmp_path / name).exists() for name in kept)
    assert sum(stored(tmp_path)[:5]) == 1


def test_files_that_others_delete_meanwhile(tmp_path, monkeypatch):
    fill(on_disk(tmp_path), KEYS[:6])
    cache = on_disk(tmp_path, disk_bytes=20_000)
    listed = cache_files._listed

    def listed_then_gone(folder):
        found = listed(folder)
        for _, _, path in sorted(found[0])[:3]:
            path.unlink()
        return found

    monkeypatch.setattr(cache_files, "_listed", listed_then_gone)
    cache.put(KEYS[7], arrays(size=1000))
    assert cache.stats.write_errors == 0
    # What is gone already counts: nothing more has to go for the four that fit.
    assert [key for key, there in zip(KEYS, stored(tmp_path), strict=True) if there] == KEYS[3:6] + KEYS[7:8]


# Several processes

TOGETHER = """
import sys
import numpy as np
from softmatch_jax.pipelines.feature_cache import CacheConfig, FeatureCache

folder, key, other, bound = sys.argv[1:5]
cache = FeatureCache(CacheConfig(folder=folder, memory_bytes=0, disk_bytes=int(bound) or None))
expected = np.random.default_rng(0).standard_normal(20_000).astype(np.float32)
print("ready", flush=True)
sys.stdin.readline()
found = 0
for turn in range(30):
    cache.put(key, {"features": expected})
    for asked in (key, other):
        entry = cache.get(asked)
        found += entry is not None
        assert entry is None or np.array_equal(entry["features"], expected)
stats = cache.stats
assert stats.damaged == stats.write_errors == 0, stats
print(found)
"""


@pytest.mark.parametrize("bound", [0, 100_000], ids=["unbounded", "evicting each other"])
def test_processes_that_share_a_folder(bound, tmp_path):
    keys = (KEY, KEY) if bound == 0 else (KEY, KEYS[2])
    both = [python(TOGETHER, tmp_path, *order, bound) for order in (keys, keys[::-1])]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert int(out) == 60 if bound == 0 else int(out) > 0
    assert all(p.suffix == ".safetensors" for p in files(tmp_path))
