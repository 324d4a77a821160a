"""Finding checkpoints: local folders and files, and caches."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import pytest
from tiny_checkpoints import COMMIT, refused, snapshot, write_dinov2

from softmatch_jax.models.catalogue import CATALOGUE
from softmatch_jax.models.checkpoints import (
    Checkpoint,
    cached,
    checkpoint_cache,
    hub_cache,
    locate,
    read_config,
)

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    """Empty caches, and no word about offline."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SOFTMATCH_CACHE", str(tmp_path / "own"))
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return write_dinov2(tmp_path_factory.mktemp("written") / "dinov2")


@pytest.fixture
def folder(written, tmp_path):
    """A copy of it that may be spoilt."""
    copy = tmp_path / "dinov2"
    copy.mkdir()
    for file in written.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


@pytest.fixture
def sharded(written, tmp_path):
    model = transformers.Dinov2Model.from_pretrained(written)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="60KB")
    return tmp_path / "sharded"


class TestLocal:
    def test_a_folder(self, folder):
        found = locate(folder)
        assert (found.name, found.path, found.kind) == (str(folder), folder, "transformers")
        files = (folder / "config.json", folder / "model.safetensors")
        content = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        assert found.revision == f"sha256:{content[:16]}"
        assert found == locate(str(folder)) and isinstance(found, Checkpoint)

    def test_a_folder_wins_over_a_hub_id(self, folder, monkeypatch):
        monkeypatch.chdir(folder.parent.parent)
        name = f"{folder.parent.name}/{folder.name}"
        assert locate(name, offline=True).path.samefile(folder)

    def test_the_revision_follows_the_content(self, folder):
        first = locate(folder).revision
        weights = folder / "model.safetensors"
        data = bytearray(weights.read_bytes())
        data[-1] ^= 1
        weights.write_bytes(data)
        os.utime(weights, ns=(1, 1))
        assert locate(folder).revision != first

    def test_the_revision_follows_the_config(self, folder):
        """The number of heads is in no shape of the weights."""
        first = locate(folder).revision
        config = folder / "config.json"
        text = config.read_text()
        assert '"num_attention_heads": 2' in text
        config.write_text(text.replace('"num_attention_heads": 2', '"num_attention_heads": 4'))
        assert locate(folder).revision != first

    def test_the_content_is_read_only_when_asked_for(self, folder, monkeypatch):
        def reading(files):
            raise AssertionError("read")

        monkeypatch.setattr("softmatch_jax.models.checkpoint_files._sha256", reading)
        found = locate(folder)
        assert found.kind == "transformers" and repr(found).count(str(folder)) == 2
        assert found == locate(folder) and hash(found) == hash(locate(folder))
        with pytest.raises(AssertionError, match="read"):
            _ = found.revision

    def test_a_pth_file(self, tmp_path):
        torch.save({"a": torch.ones(2)}, tmp_path / "mine.pth")
        found = locate(tmp_path / "mine.pth")
        assert found.kind == "segment_anything"
        assert found.revision == f"sha256:{hashlib.sha256(found.path.read_bytes()).hexdigest()[:16]}"

    def test_the_home_folder(self, folder, monkeypatch):
        monkeypatch.setenv("HOME", str(folder.parent))
        assert locate("~/dinov2").path == folder

    def test_bad_folders(self, folder, tmp_path):
        refused(lambda: locate(folder, revision="main"), "revision", "main", "leave out")
        weights = folder / "model.safetensors"
        weights.rename(folder / "weights.safetensors")
        refused(lambda: locate(folder), "weights.safetensors", "rename it")
        (folder / "weights.safetensors").unlink()
        refused(lambda: locate(folder), "has no model.safetensors")
        (folder / "pytorch_model.bin").write_bytes(b"x")
        refused(lambda: locate(folder), "pytorch_model.bin", "expected model.safetensors", "save_pretrained")
        (folder / "config.json").unlink()
        refused(lambda: locate(folder), "has no config.json")
        refused(lambda: locate(tmp_path / "nowhere"), str(tmp_path / "nowhere"), "not found")

    def test_users_that_are_not_there(self, monkeypatch):
        refused(lambda: locate("~nosuchuser/x"), "~nosuchuser/x", "was not found")
        monkeypatch.delenv("HOME")
        monkeypatch.setattr("pwd.getpwuid", {}.__getitem__)
        refused(lambda: locate("~/x"), "~/x", "was not found")
        monkeypatch.setenv("HF_HUB_CACHE", "~/hub")
        assert str(hub_cache()) == "~/hub"

    @pytest.mark.parametrize("name", ["./none", "~/none", "a/b/c", "none.pth", "x/none.pt", "/none"])
    def test_paths_that_are_not_there(self, name):
        refused(lambda: locate(name), name, "was not found; looked at /")

    def test_names_of_nothing(self, folder):
        refused(lambda: locate("dinov2-smal"), "did you mean facebook/dinov2-small?")
        refused(lambda: locate(""), "names no model")
        refused(lambda: locate("a b/c"), "names no model")
        refused(lambda: locate(folder / "config.json"), "is a file", ".pth")


class TestCached:
    def test_a_snapshot(self, written):
        path = snapshot("facebook/dinov2-small", written.iterdir())
        found = locate("facebook/dinov2-small", offline=True)
        assert found == Checkpoint(
            name="facebook/dinov2-small", path=path, revision=COMMIT, kind="transformers"
        )
        assert read_config(found)["hidden_size"] == 32

    def test_revisions(self, written):
        other = COMMIT[::-1]
        snapshot("a/b", written.iterdir())
        snapshot("a/b", written.iterdir(), commit=other, ref="v2")
        assert locate("a/b", revision="v2", offline=True).revision == other
        assert locate("a/b", revision=COMMIT, offline=True).revision == COMMIT
        refused(lambda: locate("a/b", revision="v3", offline=True), "a/b at revision v3")
        refused(lambda: locate("a/b", revision="../refs", offline=True), "../refs is not in the cache")

    @pytest.mark.parametrize(
        "revision", ["/etc", ".", "..", "a/..", "refs/../..", "a//b", "/", "main/", "a\n"]
    )
    def test_revisions_stay_in_the_cache(self, written, revision):
        repository = snapshot("a/b", written.iterdir()).parent.parent
        assert cached("a/b", revision) is None
        (repository / "refs" / "main").write_text(revision)
        assert cached("a/b") is None

    @pytest.mark.parametrize("ref", ["refs/pr/1", "v1.0+cu", "feature_x/y-2"])
    def test_names_of_revisions(self, written, ref):
        repository = snapshot("a/b", written.iterdir()).parent.parent
        (repository / "refs" / ref).parent.mkdir(parents=True, exist_ok=True)
        (repository / "refs" / ref).write_text(COMMIT + "\n")
        assert cached("a/b", ref) == repository / "snapshots" / COMMIT

    def test_nothing_cached(self, monkeypatch):
        sentence = (str(hub_cache()), "not in the cache", "softmatch models fetch a/b", "local folder")
        refused(lambda: locate("a/b", offline=True), *sentence)
        for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
            with monkeypatch.context() as patch:
                patch.setenv(name, "1")
                refused(lambda: locate("a/b"), *sentence)

    def test_cached_in_part(self, written):
        snapshot("a/b", [written / "config.json"])
        refused(lambda: locate("a/b", offline=True), "cached only in part", "has no model.safetensors")

    def test_shards_cached_in_part(self, sharded):
        files = sorted(sharded.iterdir())
        snapshot("a/b", [file for file in files if "00002-of" not in file.name])
        refused(lambda: locate("a/b", offline=True), "cached only in part", "model-00002-of", "is not there")

    def test_a_commit_from_the_catalogue(self, written):
        name = "openai/clip-vit-base-patch32"
        path = snapshot(name, written.iterdir(), commit=CATALOGUE[name].revision, ref="elsewhere")
        assert locate(name, offline=True).path == path

    def test_published_files(self):
        name = "sam_vit_b_01ec64.pth"
        refused(lambda: locate(name), name, str(checkpoint_cache()), f"softmatch models fetch {name}")
        checkpoint_cache().mkdir(parents=True)
        torch.save({"a": torch.ones(2)}, checkpoint_cache() / name)
        found = locate(name)
        assert (found.name, found.path) == (name, checkpoint_cache() / name)

    def test_where_caches_are(self, monkeypatch, tmp_path):
        constants = pytest.importorskip("huggingface_hub.constants")
        for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME", "SOFTMATCH_CACHE"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HOME", str(tmp_path))
        assert hub_cache() == tmp_path / ".cache" / "huggingface" / "hub"
        assert checkpoint_cache() == tmp_path / ".cache" / "softmatch_jax" / "checkpoints"
        monkeypatch.setenv("XDG_CACHE_HOME", "/x")
        assert str(hub_cache()) == "/x/huggingface/hub"
        assert str(checkpoint_cache()) == "/x/softmatch_jax/checkpoints"
        monkeypatch.setenv("HF_HOME", "/y")
        assert str(hub_cache()) == "/y/hub"
        assert constants.HF_HUB_CACHE.endswith("hub")  # the client's own default ends alike


def test_nothing_heavy_is_imported_to_find_what_is_cached():
    code = (
        "import sys\nfrom softmatch_jax.models.checkpoints import locate\n"
        "try:\n    locate('a/b', offline=True)\nexcept ValueError:\n    pass\n"
        "heavy = {'torch', 'transformers', 'safetensors', 'huggingface_hub'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
