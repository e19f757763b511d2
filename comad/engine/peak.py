"""What devices can compute at most, for the utilisation in the log."""

import torch

# Dense bfloat16 tensor-core peak with float32 accumulation in TFLOP/s, and the NVIDIA document that
# states it; most of its figures are with sparsity, twice these. The first name contained in the
# device's counts. A card without such a document has no utilisation.
PEAKS = {
    'A100': (312.0, 'A100 Tensor Core GPU data sheet'),
    'H100 PCIe': (756.5, 'H100 Tensor Core GPU data sheet, H100 PCIe: 1,513 with sparsity'),
    'H100 NVL': (835.5, 'H100 Tensor Core GPU data sheet, H100 NVL: 1,671 with sparsity'),
    'H100': (989.5, 'H100 Tensor Core GPU data sheet, H100 SXM: 1,979 with sparsity'),
    'H200 NVL': (835.5, 'H200 Tensor Core GPU data sheet, H200 NVL: 1,671 with sparsity'),
    'H200': (989.5, 'H200 Tensor Core GPU data sheet, H200 SXM: 1,979 with sparsity'),
    'L40S': (362.05, 'L40S data sheet'),
}


def known_peak(name: str | None = None) -> float | None:
    """Peak in TFLOP/s of the device of this name, by default the present one; None if not known."""
    if name is None:
        if not torch.cuda.is_available():
            return None
        name = torch.cuda.get_device_name()
    return next((peak for part, (peak, _) in PEAKS.items() if part in name), None)
