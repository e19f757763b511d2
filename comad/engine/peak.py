"""What devices can compute at most, for the utilisation in the log."""

import torch

# Dense 16-bit tensor-core peak, float32 accumulation, in TFLOP/s, as NVIDIA's data sheets (half of
# a figure with sparsity) and the Ada white paper are remembered; not checked against them here. The
# first name contained in the device's counts.
PEAKS = {
    'A100': 312.0,
    'H100 PCIe': 756.5,
    'H100 NVL': 835.5,
    'H100': 989.5,
    'H200 NVL': 835.5,
    'H200': 989.5,
    'L40S': 362.05,
    'RTX 4090 ': None,  # laptop and regional variants
    'RTX 4090': 165.2,
    'V100-PCIE': 112.0,
    'V100': 125.0,
}


def known_peak(name: str | None = None) -> float | None:
    """Peak in TFLOP/s of the device of this name, by default the present one; None if not known."""
    if name is None:
        if not torch.cuda.is_available():
            return None
        name = torch.cuda.get_device_name()
    return next((peak for part, peak in PEAKS.items() if part in name), None)
