from __future__ import annotations

import gc
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from softmatch_jax._checks import InputError
from softmatch_jax.models import bridge
from softmatch_jax.models.bridge import to_jax, to_torch

torch = pytest.importorskip("torch")

ROOT = Path(bridge.__file__).resolve().parents[2]
TYPES = sorted(bridge._SHARED)
NARROW = [name for name in TYPES if name not in bridge._NARROWER]
SHAPES = [(3, 4), (), (0, 3), (1,), (2, 1, 3)]
BITS = {1: "uint8", 2: "uint16", 4: "uint32", 8: "uint64", 16: "uint64"}


def tensor_of(name, shape=(3, 4)):
    """Small integers, which every type holds but for the signs and the powers of two of some."""
    return torch.arange(1, 1 + int(np.prod(shape))).reshape(shape).to(getattr(torch, name))


def bits(values):
    """The bits of a tensor or an array, in row-major order."""
    if isinstance(values, torch.Tensor):
        return values.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
    return np.asarray(values).tobytes()


def is_same(array, tensor):
    """Whether shape, type and every bit agree."""
    assert array.shape == tuple(tensor.shape)
    assert array.dtype.name == str(tensor.dtype).removeprefix("torch.")
    return bits(array) == bits(tensor)


def by_dlpack(tensor, borrow=False):
    array = bridge._array_by_dlpack(tensor, borrow)
    assert array is not None
    return array.block_until_ready()


def by_numpy(tensor):
    return bridge._array_by_numpy(torch, tensor).block_until_ready()


def lend(tensor):
    return to_jax(tensor, borrow=True)


WAYS = pytest.mark.parametrize("way", [to_jax, lend, by_dlpack, by_numpy])
COPIES = pytest.mark.parametrize("way", [to_jax, by_dlpack, by_numpy])


@WAYS
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NARROW)
def test_every_type_and_shape_arrives_bit_for_bit(way, name, shape):
    tensor = tensor_of(name, shape)
    assert is_same(way(tensor), tensor)


@WAYS
@pytest.mark.parametrize("name", sorted(bridge._NARROWER))
def test_64_bits_stay_in_64_bit_mode(way, name, x64):
    tensor = tensor_of(name)
    if "int" in name:
        tensor[0, 0] = 2**62 + 1
    else:
        tensor += 1e-12
    assert is_same(way(tensor), tensor)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NARROW)
def test_there_and_back(name, shape):
    tensor = tensor_of(name, shape)
    array = to_jax(tensor)
    for back in (to_torch(array), bridge._tensor_by_numpy(torch, np.asarray(array))):
        assert is_same(array, back) and back.is_contiguous() and not back.requires_grad


@pytest.mark.parametrize("name", sorted(bridge._NARROWER))
def test_there_and_back_in_64_bit_mode(name, x64):
    tensor = tensor_of(name)
    array = to_jax(tensor)
    for back in (to_torch(array), bridge._tensor_by_numpy(torch, np.asarray(array))):
        assert is_same(array, back)


def test_special_floats_keep_their_bits():
    for name in ("float32", "float16", "bfloat16"):
        tensor = torch.tensor([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 65504.0]).to(getattr(torch, name))
        assert is_same(to_jax(tensor), tensor) and bits(to_torch(to_jax(tensor))) == bits(tensor)


VIEWS = {
    "odd offset": lambda t: t.reshape(-1)[1:],
    "offset of 4 rows": lambda t: t[4:],
    "transposed": lambda t: t.T,
    "every second": lambda t: t[:, ::2],
    "expanded": lambda t: t[:1].expand(5, -1),
    "channels last": lambda t: t.reshape(1, 2, 3, -1).contiguous(memory_format=torch.channels_last),
    "flipped": lambda t: t.flip(0),
    "one row of odd strides": lambda t: t.as_strided((1, 3), (7, 1)),
    "scalar": lambda t: t[2, 3],
    "empty": lambda t: t[2:2],
    "diagonal": lambda t: t.diagonal(),
    "with gradient": lambda t: t.clone().requires_grad_(),
    "of a graph": lambda t: t.clone().requires_grad_() * 2,
    "parameter": lambda t: torch.nn.Parameter(t),
}


@pytest.mark.parametrize("borrow", [False, True])
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_views_arrive_as_they_look(view, borrow):
    tensor = view(torch.arange(120.0).reshape(12, 10))
    assert is_same(to_jax(tensor, borrow=borrow), tensor.detach())


def test_pending_conjugation_and_negation_are_carried_out():
    tensor = torch.tensor([1 + 2j, 3 - 4j])
    assert tensor.conj().is_conj() and tensor.conj().imag.is_neg()
    np.testing.assert_array_equal(to_jax(tensor.conj()), np.array([1 - 2j, 3 + 4j], np.complex64))
    np.testing.assert_array_equal(to_jax(tensor.conj().imag), np.array([-2, 4], np.float32))
    dense = torch._neg_view(torch.arange(3.0))
    assert dense.is_neg() and dense.is_contiguous()
    for borrow in (False, True):
        np.testing.assert_array_equal(to_jax(dense, borrow=borrow), -np.arange(3))


def test_tensors_of_inference_mode():
    with torch.inference_mode():
        tensor = torch.arange(5.0) * 2
        inside = to_jax(tensor)
    for array in (inside, to_jax(tensor), to_jax(tensor, borrow=True)):
        np.testing.assert_array_equal(array, np.arange(5) * 2)


@COPIES
@pytest.mark.parametrize("size", [7, 16, 100_000])
def test_writing_to_the_tensor_leaves_the_array(way, size):
    # Aligned buffers are those that could be shared; torch allocates no others, but views of it have them.
    for offset in (0, 1, 16):
        tensor = torch.zeros(size + 16)[offset : offset + size]
        array = way(tensor)
        tensor.fill_(7)
        assert not np.asarray(array).any()


def test_a_copy_is_done_before_the_call_returns():
    """A copy in the background would be overtaken by the write now and then."""
    for turn in range(50):
        tensor = torch.full((500_000,), float(turn))
        array = to_jax(tensor)
        tensor.fill_(-1)
        assert np.ptp(np.asarray(array)) == 0 and array[0] == turn


def test_lending_shares_memory_where_alignment_permits():
    tensor = torch.arange(64.0)
    assert tensor.data_ptr() % 64 == 0
    array = to_jax(tensor, borrow=True)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    assert to_jax(tensor[16:], borrow=True).unsafe_buffer_pointer() == tensor[16:].data_ptr()
    tensor[3] = 99  # undefined by contract; on the host it shows that nothing was copied
    assert array[3] == 99


@pytest.mark.parametrize("view", [lambda t: t[1:], lambda t: t[::2]], ids=["not aligned", "not contiguous"])
def test_lending_copies_where_memory_cannot_be_shared(view):
    tensor = torch.arange(64.0)
    array = to_jax(view(tensor), borrow=True)
    before = view(tensor).clone()
    tensor.fill_(-1)
    assert is_same(array, before)


def test_lent_memory_outlives_its_tensor():
    tensor = torch.arange(100_000.0)
    array = to_jax(tensor, borrow=True)
    assert array.unsafe_buffer_pointer() == tensor.data_ptr()
    del tensor
    gc.collect()
    others = [torch.full((100_000,), -1.0) for _ in range(20)]
    np.testing.assert_array_equal(array, np.arange(100_000, dtype=np.float32))
    assert len(others) == 20


@pytest.mark.parametrize("way", [to_torch, lambda a: bridge._tensor_by_numpy(torch, np.asarray(a))])
@pytest.mark.parametrize("size", [0, 5, 64, 100_000])
def test_writing_to_a_tensor_leaves_the_array_it_came_from(way, size):
    array = jnp.arange(size, dtype=jnp.float32)
    tensor = way(array)
    tensor.add_(1000)
    np.testing.assert_array_equal(array, np.arange(size, dtype=np.float32))


def test_a_tensor_outlives_its_array():
    array = jnp.arange(100_000.0)
    tensor = to_torch(array)
    array.delete()
    gc.collect()
    assert float(tensor.sum(dtype=torch.float64)) == 100_000 * 99_999 / 2


def test_what_dlpack_refuses_goes_by_numpy(monkeypatch):
    refused = []

    def refuse(*_args, **_options):
        refused.append(True)
        raise BufferError("no")

    monkeypatch.setattr(jax.dlpack, "from_dlpack", refuse)
    monkeypatch.setattr(torch, "from_dlpack", refuse)
    tensor = torch.arange(6.0).to(torch.bfloat16)
    array = to_jax(tensor, borrow=True)
    assert is_same(array, tensor) and is_same(array, to_torch(array)) and len(refused) == 2
    assert array.unsafe_buffer_pointer() != tensor.data_ptr()


def test_a_host_tensor_goes_where_jax_works(monkeypatch):
    """Were JAX's default device a GPU, sharing would leave the array behind on the host."""
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax.dlpack, "from_dlpack", lambda _: pytest.fail("left on the host"))
    np.testing.assert_array_equal(to_jax(torch.arange(3.0), borrow=True), np.arange(3))


def test_values_cross_as_constants_in_traced_functions():
    tensor = torch.arange(3.0)

    @jax.jit
    def shifted(x):
        return x + to_jax(tensor) + to_jax(tensor, borrow=True)

    np.testing.assert_array_equal(shifted(jnp.ones(3)), 1 + 2 * np.arange(3))


def test_many_threads_at_once():
    def cross(seed):
        values = np.random.default_rng(seed).random((seed % 7 + 1, 500), np.float32)
        tensor = torch.from_numpy(values.copy())
        array = to_jax(tensor, borrow=bool(seed % 2))
        back = to_torch(array)
        if not seed % 2:
            tensor.zero_()
        return np.array_equal(array, values) and np.array_equal(back.numpy(), values)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(cross, range(400)))


@pytest.mark.parametrize("name", sorted(bridge._NARROWER))
def test_64_bits_are_narrowed_when_asked_only(name):
    narrower = bridge._NARROWER[name]
    tensor = tensor_of(name)
    with pytest.raises(InputError, match=f"tensor is {name}.*narrow=True to take it as {narrower}"):
        to_jax(tensor)
    array = to_jax(tensor, narrow=True)
    assert array.dtype == narrower
    np.testing.assert_array_equal(array, np.arange(1, 13).reshape(3, 4))
    assert to_jax(tensor[:0], narrow=True).shape == (0, 4)


def test_narrowing_leaves_what_need_not_be_narrowed(x64):
    assert to_jax(torch.arange(3), narrow=True).dtype == np.int64
    assert to_jax(torch.arange(3, dtype=torch.int16), narrow=True).dtype == np.int16


@pytest.mark.parametrize(
    ("name", "value"),
    [("int64", 2**31), ("int64", -(2**31) - 1), ("uint64", 2**32), ("uint64", 2**63 + 1)],
)
def test_integers_that_do_not_fit_are_not_wrapped(name, value):
    tensor = torch.tensor([0, value], dtype=getattr(torch, name))
    with pytest.raises(InputError, match=f"holds {name} values outside .*enable jax_enable_x64"):
        to_jax(tensor, narrow=True)


def test_the_largest_integers_that_fit():
    for name, value in (("int64", 2**31 - 1), ("int64", -(2**31)), ("uint64", 2**32 - 1)):
        assert int(to_jax(torch.tensor([value], dtype=getattr(torch, name)), narrow=True)[0]) == value


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.zeros(3), "tensor is a ndarray; expected a torch.Tensor"),
        ([1.0, 2.0], "tensor is a list; expected a torch.Tensor"),
        (None, "tensor is a NoneType"),
        (torch.eye(3).to_sparse(), "torch.sparse_coo.*to_dense"),
        (torch.empty(3, device="meta"), "meta device.*load its weights"),
        (torch.empty(2, dtype=torch.uint4), "tensor is uint4, a type that JAX does not have"),
    ],
    ids=["numpy", "list", "none", "sparse", "meta", "uint4"],
)
def test_what_is_no_tensor_that_jax_can_hold(wrong, message):
    with pytest.raises(InputError, match=message):
        to_jax(wrong)


def test_what_is_no_array_that_torch_can_hold():
    gone = jnp.arange(3)
    gone.delete()
    for wrong, message in [
        (np.zeros(3), "array is a ndarray; expected a jax.Array"),
        (torch.zeros(3), "array is a Tensor; expected a jax.Array"),
        (1.5, "array is a float; expected a jax.Array"),
        (jax.random.key(0), r"key<fry>, a type that PyTorch does not have.*key_data"),
        (jnp.zeros(2, jnp.int4), "int4, a type that PyTorch does not have"),
        (gone, "array has been deleted or donated"),
    ]:
        with pytest.raises(InputError, match=message):
            to_torch(wrong)
    with pytest.raises(InputError, match=r"being traced.*outside of jax\.jit"):
        jax.jit(to_torch)(jnp.ones(3))


def test_the_device_can_be_named():
    for device in ("cpu", torch.device("cpu")):
        assert to_torch(jnp.ones(3), device=device).device.type == "cpu"
    assert to_torch(jnp.ones(3), device="meta").shape == (3,)
    for wrong in ("nonsense", [1]):
        with pytest.raises(InputError, match=r"device is .*, which PyTorch refuses .*expected"):
            to_torch(jnp.ones(3), device=wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_device_that_is_not_there():
    with pytest.raises(InputError, match="device is 'cuda', which PyTorch refuses"):
        to_torch(jnp.ones(3), device="cuda")


def test_settings_stay_and_cuda_is_not_initialised():
    before = dict(jax.config.values)
    array = to_jax(torch.arange(3), narrow=True)
    to_torch(to_jax(torch.ones(3), borrow=True) + array)
    assert before == dict(jax.config.values) and not torch.cuda.is_initialized()


SPREAD = """
import jax, jax.numpy as jnp, numpy as np, torch
from jax.sharding import NamedSharding, PartitionSpec
from softmatch_jax.models.bridge import to_jax, to_torch

mesh = jax.make_mesh((4,), ("data",))
values = np.arange(32, dtype=np.float32).reshape(8, 4)
for spec in (PartitionSpec("data"), PartitionSpec(None, "data"), PartitionSpec()):
    array = jax.device_put(values, NamedSharding(mesh, spec))
    for given in (array, array.astype(jnp.bfloat16)):
        tensor = to_torch(given)
        assert tensor.is_contiguous() and str(tensor.dtype) == f"torch.{given.dtype.name}"
        assert np.array_equal(tensor.float().numpy(), values)
        tensor.zero_()
        assert np.array_equal(given.astype(np.float32), values)
assert np.array_equal(to_torch(jax.device_put(values, jax.devices()[2])).numpy(), values)
# A copy may go anywhere: beside arrays on other devices, and onto the device of the moment.
spread = jax.device_put(values, NamedSharding(mesh, PartitionSpec("data")))
assert np.array_equal(jax.jit(jnp.add)(to_jax(torch.from_numpy(values)), spread), 2 * values)
with jax.default_device(jax.devices()[3]):
    assert to_jax(torch.ones(3)).devices() == {jax.devices()[3]}
"""


def test_arrays_on_several_devices():
    flags = "--xla_force_host_platform_device_count=4"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SPREAD],
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that PyTorch can use")
@pytest.mark.parametrize("borrow", [False, True])
def test_between_gpus(borrow):
    tensor = torch.arange(1000, device="cuda", dtype=torch.bfloat16).reshape(50, 20)
    for view in (tensor, tensor.T, tensor[1:], tensor[:, ::2]):
        expected = view.cpu().clone()
        array = to_jax(view, borrow=borrow)
        # Without a GPU of its own JAX takes the values by way of the host.
        assert next(iter(array.devices())).platform == jax.default_backend()
        assert is_same(array, expected)
        back = to_torch(array)
        assert is_same(array, back.cpu()) and is_same(array, to_torch(array, device="cpu"))
        assert to_torch(array, device="cuda").device.type == "cuda"
    if not borrow:
        array = to_jax(tensor)
        expected = tensor.cpu().clone()
        tensor.zero_()
        torch.cuda.synchronize()
        assert is_same(array, expected)
