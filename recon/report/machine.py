"""What the figures of a run were measured on."""

import os
import platform
from pathlib import Path

import torch

import gaussworld


def machine_facts(device: torch.device | str = "cpu") -> dict[str, str]:
    """Processor, cores, device, and versions, in words.

    Args:
        device: where the Gaussians were fitted.
    """
    facts = {"processor": _processor(), "cores": str(_cores()), "device": _device(torch.device(device))}
    versions = {
        "GaussWorld": gaussworld.__version__,
        "torch": torch.__version__,
        "Python": platform.python_version(),
    }
    return facts | versions | {"system": f"{platform.system()} {platform.machine()}"}


def _processor() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = ""
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _cores() -> int:
    """Those that this process may use: fewer than the machine has in containers that pin it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _device(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()
