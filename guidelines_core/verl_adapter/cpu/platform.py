"""The platform "cpu" for verl, loaded into every process by `VERL_USE_EXTERNAL_MODULES`.

verl 0.9.1 ships platforms for CUDA, NPU and ROCm (`verl/plugin/platform/`) and chooses one by `VERL_PLATFORM`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry


class _CpuDevice(ModuleType):
    """`torch.cpu` with the parts of `torch.cuda` that verl uses: memory counters, caches, random generator state.

    Callers: `workers/engine_workers.py`, `utils/memory_utils.py`, `vllm_rollout/bucketed_weight_transfer.py`
    and `utils/checkpoint/checkpoint_manager.py` (a resume needs `set_rng_state`).
    """

    get_rng_state = staticmethod(torch.get_rng_state)
    set_rng_state = staticmethod(torch.set_rng_state)

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    @staticmethod
    def memory_allocated(device: Any = None) -> int:
        """Return this process's resident memory in bytes."""
        return int(psutil.Process().memory_info().rss)

    memory_reserved = max_memory_allocated = max_memory_reserved = memory_allocated

    @staticmethod
    def mem_get_info(device: Any = None) -> tuple[int, int]:
        """Return the machine's free and total memory in bytes."""
        memory = psutil.virtual_memory()
        return int(memory.available), int(memory.total)

    @staticmethod
    def get_device_name(device: Any = None) -> str:
        """Return the name of a CPU in verl's table of peak FLOP/s (`utils/flops_counter.py`)."""
        return "CPU"

    @staticmethod
    def empty_cache() -> None:
        """Do nothing: a CPU has no caching allocator to empty."""

    ipc_collect = reset_peak_memory_stats = empty_cache


_DEVICE = _CpuDevice("guidelines_core.verl_adapter.cpu.device")


@PlatformRegistry.register(platform="cpu")
class PlatformCPU(PlatformBase):
    """A CPU in place of as many logical GPUs as `ray_kwargs.ray_init.num_gpus` says.

    Ray's resource keeps the name "GPU": `single_controller/ray/base.py` and `vllm_async_server.py`
    fail with any other. There is no IPC, so weights travel to the rollout engine through shared memory.
    """

    device_name = "cpu"
    vendor_name = "cpu"
    device_module = _DEVICE

    def is_available(self) -> bool:
        return True

    def current_device(self) -> str:  # type: ignore[override]
        """Return what `module.to()` takes; an index would mean an accelerator (`utils/fsdp_utils.py`)."""
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None: ...

    def synchronize(self, device_index: int | None = None) -> None: ...

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None: ...

    def empty_cache(self) -> None: ...

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextlib.contextmanager
    def nvtx_range(self, msg: str) -> Iterator[None]:
        yield

    def profiler_start(self) -> None: ...

    def profiler_stop(self) -> None: ...

    def ray_resource_name(self) -> str:
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None:
        return None
