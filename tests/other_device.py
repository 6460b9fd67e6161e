"""A device that is not the CPU, on any machine: tensors that claim to lie on torch's `meta` device, and hold values.

Each operation is computed on the CPU, after the rules of a GPU: all its tensors lie on one device, none waits for
another unnoticed, and none lacks a deterministic algorithm there.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytorch_lightning as pl
import torch
from pytorch_lightning.accelerators import Accelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten

DEVICE = torch.device("meta")
aten = torch.ops.aten

# Where the CPU waits until the device has computed a value, or a number of rows.
WAITS = {
    aten._local_scalar_dense.default, aten.equal.default, aten.nonzero.default, aten.masked_select.default,
    aten._unique2.default, aten.unique_dim.default, aten.unique_consecutive.default, aten.bincount.default,
    aten.repeat_interleave.Tensor,
}  # fmt: skip
# What torch.use_deterministic_algorithms refuses on CUDA, as its documentation lists it.
NEVER_DETERMINISTIC = {
    "put_", "put", "histc", "median", "nanmedian", "kthvalue", "nll_loss2d_forward", "nll_loss2d_backward",
    "max_unpool2d", "max_unpool3d", "_ctc_loss_backward", "adaptive_max_pool2d_backward",
    "_adaptive_avg_pool2d_backward", "_adaptive_avg_pool3d_backward", "avg_pool3d_backward",
    "reflection_pad1d_backward", "reflection_pad2d_backward", "reflection_pad3d_backward",
    "upsample_linear1d_backward", "upsample_bilinear2d_backward", "upsample_bicubic2d_backward",
    "upsample_trilinear3d_backward", "grid_sampler_2d_backward", "grid_sampler_3d_backward", "cumprod", "logcumsumexp",
}  # fmt: skip
# They take tensors of both devices: a copy is their purpose.
COPIES = {aten.copy_.default, aten._to_copy.default}
# Indices may lie on the CPU.
INDEXES = {aten.index.Tensor, aten.index_put_.default, aten.index_put.default, aten._index_put_impl_.default}


class OtherTensor(Tensor):
    """A tensor of the other device; `values` lie on the CPU."""

    values: Tensor

    @staticmethod
    def __new__(cls, values: Tensor) -> "OtherTensor":
        with torch.inference_mode(False):  # a view of a tensor from outside of that mode shares its count of writes
            tensor: OtherTensor = Tensor._make_wrapper_subclass(
                cls, values.shape, strides=values.stride(), storage_offset=values.storage_offset(), dtype=values.dtype,
                device=DEVICE,
            )  # fmt: skip
        tensor.values = values
        return tensor

    def __repr__(self, **options: Any) -> str:
        return f"OtherTensor({self.values!r})"

    def __format__(self, form: str) -> str:
        return format(self.item(), form)

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __reduce_ex__(self, protocol: Any) -> Any:
        """A checkpoint holds its values."""
        return self.values.__reduce_ex__(protocol)

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        copy = self.detach().clone().requires_grad_(self.requires_grad)
        if isinstance(self, torch.nn.Parameter):
            copy = torch.nn.Parameter(copy, self.requires_grad)
        memo[id(self)] = copy
        return copy

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise RuntimeError(f"{operation} on the other device, outside of `other_device`")


class Rules(TorchDispatchMode):
    """Computes on the CPU what is asked of the device, if the rules of a GPU allow it.

    Attributes:
        waits: by operation, how often the CPU waited for the device.
        operations: how many the device computed.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waits: Counter[str] = Counter()
        self.operations = 0

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if operation is aten._has_compatible_shallow_copy_type.default:
            return type(args[0]) is type(args[1])
        if torch.is_inference_mode_enabled():
            with self:
                parts = operation.decompose(*args, **kwargs)  # elsewhere autograd has done so before
            if parts is not NotImplemented:
                return parts
        return self._computed(operation, args, kwargs)

    def _computed(self, operation: Any, args: Any, kwargs: dict[str, Any]) -> Any:
        leaves, form = tree_flatten((args, kwargs))
        tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
        there = [tensor for tensor in tensors if isinstance(tensor, OtherTensor)]
        asked = kwargs.get("device")
        to_other = bool(there) if asked is None else torch.device(asked) == DEVICE
        if there:
            self.operations += 1
            _check_devices(operation, tensors)
            _check_determinism(operation, args, kwargs)
            self._count(operation, args, to_other)
        elif to_other and operation is aten._to_copy.default:
            self.waits["a copy to it"] += 1
        inside = [_values(leaf) for leaf in leaves]
        in_args, in_kwargs = tree_unflatten(inside, form)
        if asked is not None:
            in_kwargs["device"] = torch.device("cpu")
        result = operation(*in_args, **in_kwargs)
        known = {id(leaf.values): leaf for leaf in there}

        def outside(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            if id(value) in known:
                return known[id(value)]
            return OtherTensor(value) if to_other else value

        if operation is aten.copy_.default:
            return args[0]
        return tree_map(outside, result)

    def _count(self, operation: Any, args: Any, to_other: bool) -> None:
        by_mask = operation in INDEXES and any(
            index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        from_cpu = operation in INDEXES and any(
            index is not None and not isinstance(index, OtherTensor) and index.ndim for index in args[1]
        )
        sides = [isinstance(argument, OtherTensor) for argument in args[:2]]
        crosses = operation is aten.copy_.default and sides[0] != sides[1]
        leaves = operation is aten._to_copy.default and not to_other
        if operation in WAITS or by_mask or crosses or leaves or from_cpu:
            self.waits[str(operation)] += 1


def _values(leaf: Any) -> Any:
    return leaf.values if isinstance(leaf, OtherTensor) else leaf


def _check_devices(operation: Any, tensors: list[Tensor]) -> None:
    if operation in COPIES:
        return
    indices = (torch.long, torch.bool) if operation in INDEXES else ()
    for tensor in tensors:
        # as on CUDA: a single number of the CPU goes with anything
        if not isinstance(tensor, OtherTensor) and tensor.ndim and tensor.dtype not in indices:
            raise RuntimeError(
                f"{operation}: all tensors must lie on one device, got one of shape {tuple(tensor.shape)} on the CPU"
            )


def _check_determinism(operation: Any, args: Any, kwargs: Any) -> None:
    name = operation.overloadpacket.__name__
    is_refused = (
        name in NEVER_DETERMINISTIC
        or (name in ("cumsum", "cumsum_") and (kwargs.get("dtype") or args[0].dtype).is_floating_point)
        or (name == "bincount" and (kwargs.get("weights") is not None or (len(args) > 1 and args[1] is not None)))
        or (name.startswith("scatter_reduce") and "prod" in (*args, *kwargs.values()))
    )
    if is_refused:
        raise RuntimeError(f"{operation} has no deterministic algorithm on CUDA")


class OtherAccelerator(Accelerator):
    """What Lightning trains on."""

    def setup_device(self, device: torch.device) -> None:
        assert device == DEVICE

    def teardown(self) -> None:
        pass

    @staticmethod
    def parse_devices(devices: Any) -> Any:
        return devices

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [DEVICE]

    @staticmethod
    def auto_device_count() -> int:
        return 1

    @staticmethod
    def is_available() -> bool:
        return True

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        return {}

    @staticmethod
    def name() -> str:
        return "other"


@contextmanager
def other_device() -> Iterator[Rules]:
    """Where `DEVICE` can compute."""
    rules = Rules()
    autocast, trainer = torch.autocast, pl.Trainer
    is_enabled, dtype_of = torch.is_autocast_enabled, torch.get_autocast_dtype
    fused = torch.utils._foreach_utils._get_fused_kernels_supported_devices

    def on_other(device_type: str, *args: Any, **kwargs: Any) -> Any:
        return autocast("cpu" if device_type == "meta" else device_type, *args, **kwargs)

    def trainer_there(**options: Any) -> pl.Trainer:
        return trainer(**(options | {"accelerator": OtherAccelerator(), "strategy": SingleDeviceStrategy(DEVICE)}))

    def made_there(make: Any) -> Any:
        """torch would make a `meta` tensor without values."""

        def make_there(data: Any, *, device: Any = None, **kwargs: Any) -> Tensor:
            is_there = device is not None and torch.device(device) == DEVICE
            if isinstance(data, OtherTensor) or not is_there:
                return make(data, device=device, **kwargs)
            return make(data, **kwargs).to(DEVICE)

        return make_there

    load = torch.load

    def load_there(file: Any, *, map_location: Any = None, **options: Any) -> Any:
        content = load(file, map_location="cpu", **options)
        is_there = map_location is not None and torch.device(map_location) == DEVICE
        return tree_map(lambda value: value.to(DEVICE), content) if is_there else content

    with (
        mock.patch.object(torch, "load", load_there),
        mock.patch.object(torch, "autocast", on_other),
        mock.patch.object(torch, "is_autocast_enabled", lambda kind: is_enabled("cpu" if kind == "meta" else kind)),
        mock.patch.object(torch, "get_autocast_dtype", lambda kind: dtype_of("cpu" if kind == "meta" else kind)),
        mock.patch.object(torch, "tensor", made_there(torch.tensor)),
        mock.patch.object(torch, "as_tensor", made_there(torch.as_tensor)),
        mock.patch.object(pl, "Trainer", trainer_there),
        mock.patch("torch.optim.optimizer._get_fused_kernels_supported_devices", return_value=[*fused(), "meta"]),
        rules,
    ):
        yield rules
