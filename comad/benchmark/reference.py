"""A method without its savings: what a step costs when dropped patches are only masked.

The same function of the same weights. Every network runs on all tokens of the image; patches that
it must not see are hidden from attention, and their outputs are thrown away; so are cubes of clips.
Frozen networks run under autocast like any other and under ``no_grad``. Nothing is compiled.
"""

import copy
from functools import partial

import torch
from torch import Tensor, nn

from backbones.contract import BlockNetwork
from backbones.frozen import Frozen
from comad.benchmark.workload import Workload

# Between two float32 computations of the same tokens and losses; more means another function.
TOLERANCE = 1e-4


def straightforward(model: nn.Module) -> nn.Module:
    """A copy of a pretraining method whose networks run on all tokens.

    Raises:
        ValueError: a teacher whose blocks cannot be run one by one, such as one of timm.
    """
    model = copy.deepcopy(model)
    for name, module in model.named_modules():
        if isinstance(module, BlockNetwork):
            module.tokens = partial(all_tokens, module)
        elif isinstance(module, Frozen):
            raise ValueError(f'{name}: there is no reference for {type(module).__name__}')
    return model


def all_tokens(
    network: BlockNetwork,
    images: Tensor,
    keep: Tensor | None = None,
    layers: list[int] | None = None,
) -> Tensor | list[Tensor]:
    """`tokens` by way of all N patches: (B, p + n, D) of the p prefix tokens and the kept ones."""
    with torch.set_grad_enabled(torch.is_grad_enabled() and not isinstance(network, Frozen)):
        x, prefix, mask = network.embed(images), network.num_prefix, None
        if keep is not None:
            mask = torch.zeros(x.shape[:2], dtype=torch.bool, device=x.device)
            mask = mask.scatter(1, keep + prefix, True)
            mask[:, :prefix] = True
            mask = mask[:, None, None, :]
        wanted = layers or [len(network.blocks) - 1]
        outputs = {}
        for number, block in enumerate(network.blocks[: max(wanted) + 1]):
            x = x + block.drop_path1(block.ls1(block.attn(block.norm1(x), attn_mask=mask)))
            x = x + block.drop_path2(block.ls2(block.mlp(block.norm2(x))))
            if number in wanted:
                outputs[number] = x
        kept = [_kept(outputs[number], keep, prefix) for number in wanted]
        return network.norm(kept[0]) if layers is None else kept


def _kept(x: Tensor, keep: Tensor | None, prefix: int) -> Tensor:
    if keep is None:
        return x
    index = (keep + prefix).unsqueeze(-1).expand(-1, -1, x.shape[-1])
    return torch.cat([x[:, :prefix], x.gather(1, index)], dim=1)


@torch.no_grad()
@torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
def largest_difference(ours: Workload, other: Workload) -> float:
    """Of all tokens and losses of one step in float32, relative to the largest of each.

    The same masks are drawn for both. Convolutions compute in float32 throughout, not in the TF32
    of a GPU: one network embeds all patches with one, the other kept ones with a product.

    Tokens are those of the teachers and of the student, the rebuilt map and the consensus, for a
    method that has them; losses alone could agree by chance.

    Raises:
        ValueError: more than `TOLERANCE`: they do not compute the same function.
    """
    wanted, found = _outputs(other), _outputs(ours)
    errors = {
        name: float((found[name] - value).abs().max() / value.abs().max().clamp(min=1e-12))
        for name, value in wanted.items()
    }
    # NaN, too, is no agreement.
    worst = max(errors, key=lambda name: (errors[name] != errors[name], errors[name]))
    if not errors[worst] <= TOLERANCE:
        raise ValueError(
            f'the reference computes another {worst}: relative difference {errors[worst]:.2g}, '
            f'at most {TOLERANCE:g} is rounding'
        )
    return errors[worst]


def _outputs(workload: Workload) -> dict[str, Tensor]:
    """Tokens and losses of a step by name, masks drawn from one seed."""
    model = workload.model
    torch.manual_seed(0)
    data = model.data_preprocessor(workload.batch, True)
    losses = model(**data, mode='loss')
    outputs = {name: value for name, value in losses.items() if 'loss' in name}
    if hasattr(model, 'consensus'):
        torch.manual_seed(0)
        found = model.consensus(data['inputs'], model.draw_masks(data['inputs']))
        names = [f'token of teacher {name}' for name in model.teacher_names]
        outputs |= dict(zip(names, found.teacher_tokens, strict=True))
        outputs |= {'student token': found.student, 'rebuilt map': found.rebuilt}
        outputs['consensus'] = found.target
    if hasattr(model, 'teacher_outputs'):
        torch.manual_seed(0)
        images = data['inputs']
        keep, missing = model.draw_masks(images)
        found = model.teacher_outputs(images, keep, missing)
        student, normed = model.student_outputs(images, keep)
        named = {'token of the teacher': found, 'student token': [*student, normed]}
        outputs |= {f'{name} {k}': x for name, own in named.items() for k, x in enumerate(own)}
    return outputs
