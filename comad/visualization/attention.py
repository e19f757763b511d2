"""How far the heads of student and teachers look, block by block."""

from pathlib import Path

from torch import Tensor

from comad.methods.parts.attention import AttentionSummary
from comad.visualization.pretraining import new_figure, save_figure


def draw_attention(
    images: Tensor, summary: AttentionSummary, path: str | Path, caption: str = ''
) -> Path:
    """Draw attention distance per head and mean NMI over the blocks as one PNG.

    Args:
        images: (B, 3, H, W), those the summary is about.
        summary: by the name of the network.
        path: the PNG to write.
        caption: line above the panels.
    """
    figure, ((distance, nmi),) = new_figure(1, 2, 4.6, 3.4)
    colors = [f'C{i}' for i in range(len(summary.networks))]
    for (name, found), color in zip(summary.networks.items(), colors, strict=True):
        blocks = range(1, len(found.distance) + 1)
        for head in found.distance.T.cpu():
            distance.plot(blocks, head, '.', color=color, alpha=0.6)
        distance.plot(blocks, found.distance.mean(1).cpu(), color=color, label=name)
        nmi.plot(blocks, found.nmi.mean(1).cpu(), marker='.', color=color, label=name)
    for axis, title in ((distance, 'attention distance (patches); points: heads'), (nmi, 'NMI')):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel('block', fontsize=9)
        axis.set_ylim(bottom=0)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8, frameon=False)
    figure.suptitle(f'{caption} ({len(images)} images)', fontsize=10)
    return save_figure(figure, path)
