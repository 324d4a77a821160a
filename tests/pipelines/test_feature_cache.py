from __future__ import annotations

import builtins
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from cache_entries import KEY, KEYS, arrays, files, never, on_disk, python, same

from softmatch_jax._checks import InputError
from softmatch_jax.pipelines.feature_cache import (
    CacheConfig,
    CacheStats,
    FeatureCache,
    content_key,
    default_cache_folder,
)

pytest.importorskip("safetensors")

# Keys


def test_the_key_is_of_the_content():
    image = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    key = content_key(image, "model")
    assert len(key) == 64 and set(key) <= set("0123456789abcdef")
    assert key == content_key(image.copy(), "model")
    assert key == content_key(np.asfortranarray(image), "model")
    twice = np.repeat(image, 2, axis=1)
    assert key == content_key(twice[:, ::2], "model")
    changed = image.copy()
    changed[3, 3, 1] ^= 1
    others = [
        content_key(changed, "model"),
        content_key(image, "model "),
        content_key(image.reshape(8, 6, 3), "model"),
        content_key(image.reshape(12, 4, 3), "model"),
        content_key(image[:, ::-1], "model"),
    ]
    assert len({key, *others}) == 6


def test_the_key_stays_from_version_to_version():
    """Written down, as a changed key would silently empty every user's cache."""
    image = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    assert content_key(image, "dino@1") == "efaa1d92aad6cf04df05aacc610d2da8c2f9ceab12965487ebb748fe41d7c70b"


def test_what_is_no_picture_or_model_has_no_key():
    with pytest.raises(InputError, match="image is float64"):
        content_key(np.zeros((2, 2, 3)), "model")
    with pytest.raises(InputError, match="model is empty"):
        content_key(np.zeros((2, 2, 3), np.uint8), "")


@pytest.mark.parametrize("key", ["", "ab", "../" * 20 + "abcd", KEY.upper() + "A", KEY + "\n", "g" * 64])
def test_other_keys_are_refused(key, tmp_path):
    cache = on_disk(tmp_path)
    for ask in (cache.get, lambda k: cache.put(k, {}), lambda k: cache.get_or_compute(k, never)):
        with pytest.raises(InputError, match="expected 64 hexadecimal digits"):
            ask(key)


# Memory


def test_what_was_put_comes_out():
    cache = FeatureCache()
    assert cache.get(KEY) is None
    cache.put(KEY, arrays())
    assert same(cache.get(KEY), arrays())
    assert cache.stats == CacheStats(hits_memory=1, misses=1, bytes_in_memory=400)
    cache.put(KEY, arrays(1, 50))
    assert same(cache.get(KEY), arrays(1, 50)) and cache.stats.bytes_in_memory == 200


def test_nobody_can_change_what_is_kept(tmp_path):
    given = arrays()
    cache = FeatureCache(CacheConfig(folder=tmp_path))
    cache.put(KEY, given)
    given["features"][:] = 0
    given["more"] = np.zeros(3)
    for one in (cache.get(KEY), cache.get_or_compute(KEY, never), on_disk(tmp_path).get(KEY)):
        with pytest.raises(ValueError, match="read-only"):
            one["features"][0] = 1
        with pytest.raises(ValueError, match="WRITEABLE"):
            one["features"].setflags(write=True)
        one.clear()
    assert same(cache.get(KEY), arrays())


def test_emptying_an_answer_empties_that_answer_only():
    cache = FeatureCache()
    for compute in (arrays, never):
        cache.get_or_compute(KEY, compute).clear()
    assert same(cache.get(KEY), arrays())


def test_the_longest_unused_goes_first():
    cache = FeatureCache(CacheConfig(memory_bytes=1200))
    for key in KEYS[:3]:
        cache.put(key, arrays())
    cache.get(KEYS[0])
    cache.get_or_compute(KEYS[1], never)
    cache.put(KEYS[3], arrays())
    assert [cache.get(key) is not None for key in KEYS[:4]] == [True, True, False, True]
    assert cache.stats.bytes_in_memory == 1200
    cache.put(KEYS[4], arrays(size=300))
    assert [cache.get(key) is not None for key in KEYS[:5]] == [False] * 4 + [True]


def test_the_bound_on_memory_holds_whatever_comes():
    cache, rng = FeatureCache(CacheConfig(memory_bytes=1000)), np.random.default_rng(0)
    for _ in range(300):
        cache.put(KEYS[rng.integers(20)], arrays(size=int(rng.integers(0, 300))))
        held = [cache._memory[key]["features"].nbytes for key in cache._memory]
        assert sum(held) == cache.stats.bytes_in_memory <= 1000


def test_what_exceeds_the_bound_is_not_kept_and_replaces_what_was():
    cache = FeatureCache(CacheConfig(memory_bytes=500))
    cache.put(KEY, arrays())
    cache.put(KEYS[2], arrays(size=126))
    assert cache.get(KEYS[2]) is None and same(cache.get(KEY), arrays())
    cache.put(KEY, arrays(size=126))
    assert cache.get(KEY) is None and cache.stats.bytes_in_memory == 0
    assert same(cache.get_or_compute(KEY, lambda: arrays(size=126)), arrays(size=126))


def test_without_a_folder_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SOFTMATCH_CACHE", str(tmp_path))
    FeatureCache().get_or_compute(KEY, arrays)
    assert list(tmp_path.iterdir()) == []


# Computing once


@pytest.mark.parametrize("memory", [0, 1 << 20], ids=["nothing kept", "kept"])
def test_threads_that_ask_at_once_compute_once(memory):
    cache, calls = FeatureCache(CacheConfig(memory_bytes=memory)), []
    ready = threading.Barrier(8)

    def compute():
        calls.append(True)
        time.sleep(0.2)
        return arrays()

    def ask(_):
        ready.wait()
        return cache.get_or_compute(KEY, compute)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    assert len(calls) == 1 and all(same(answer, arrays()) for answer in answers)
    assert (cache.stats.misses, cache.stats.hits_memory) == (1, 7)
    assert not cache._running


def test_other_keys_do_not_wait():
    cache, inside, go_on = FeatureCache(), threading.Event(), threading.Event()

    def slow():
        inside.set()
        assert go_on.wait(10)
        return arrays()

    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(cache.get_or_compute, KEY, slow)
        assert inside.wait(10)
        assert same(cache.get_or_compute(KEYS[2], lambda: arrays(2)), arrays(2))
        assert not pending.done()
        go_on.set()
        assert same(pending.result(10), arrays())


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_failure_is_its_callers_and_the_next_computes(error):
    cache, inside, go_on = FeatureCache(), threading.Event(), threading.Event()

    def fail():
        inside.set()
        assert go_on.wait(10)
        raise error

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(cache.get_or_compute, KEY, fail)
        assert inside.wait(10)
        second = pool.submit(cache.get_or_compute, KEY, arrays)
        time.sleep(0.05)
        go_on.set()
        assert same(second.result(10), arrays())
        with pytest.raises(type(error)):
            first.result(10)
    assert not cache._running and same(cache.get(KEY), arrays())


def test_many_threads_and_keys(tmp_path):
    cache = FeatureCache(CacheConfig(folder=tmp_path, memory_bytes=2000, disk_bytes=8000))

    def ask(turn):
        index = int(np.random.default_rng(turn).integers(20))
        if turn % 3 == 0:
            cache.put(KEYS[index], arrays(index))
        return same(cache.get_or_compute(KEYS[index], lambda: arrays(index)), arrays(index))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(200)))
    assert cache.stats.bytes_in_memory <= 2000
    assert cache.stats.write_errors == cache.stats.damaged == 0
    assert sum(p.stat().st_size for p in files(tmp_path)) <= 8000


# Settings


def test_the_folder_when_nobody_says(monkeypatch, tmp_path):
    monkeypatch.setattr(builtins, "open", never)
    for name in ("SOFTMATCH_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / ".cache" / "softmatch_jax"
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert default_cache_folder() == Path("/x/softmatch_jax")
    monkeypatch.setenv("SOFTMATCH_CACHE", "~/mine")
    assert default_cache_folder() == tmp_path / "mine"
    assert list(tmp_path.iterdir()) == []


def test_settings():
    assert CacheConfig(folder="~/x").folder == Path.home() / "x"
    assert CacheConfig().folder is None
    for name in ("memory_bytes", "disk_bytes"):
        with pytest.raises(InputError, match=f"CacheConfig.{name} is -1"):
            CacheConfig(**{name: -1})


def test_settings_are_read_without_jax():
    done = python(
        "import sys, json; import softmatch_jax.pipelines.feature_cache\n"
        "print(json.dumps(sorted({'jax', 'torch', 'safetensors', 'PIL'} & sys.modules.keys())))"
    )
    out, err = done.communicate(timeout=60)
    assert done.returncode == 0, err
    assert json.loads(out) == []
