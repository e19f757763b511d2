"""Weight files as users hold them: what is inside, conversion to one plain file, export."""

from comad.weights.convert import convert
from comad.weights.export import export_onnx, export_timm, export_videomae
from comad.weights.inspect import Report, inspect_file

__all__ = ['Report', 'convert', 'export_onnx', 'export_timm', 'export_videomae', 'inspect_file']
