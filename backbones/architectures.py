"""Architectures by name: the one place where a student's or teacher's shape is written down.

Nothing here imports torch, so that names and cards can be checked before anything is built.
"""

# Stand-ins for the embedded sample: 64-px images, 8-px patches, minutes on a CPU.
SAMPLE = 'sample_'
ARCHITECTURES: dict[str, dict[str, int]] = {
    'tiny': dict(img_size=224, patch_size=16, embed_dim=192, depth=12, num_heads=3),
    'small': dict(img_size=224, patch_size=16, embed_dim=384, depth=12, num_heads=6),
    'base': dict(img_size=224, patch_size=16, embed_dim=768, depth=12, num_heads=12),
    f'{SAMPLE}tiny': dict(img_size=64, patch_size=8, embed_dim=64, depth=4, num_heads=2),
    f'{SAMPLE}base': dict(img_size=64, patch_size=8, embed_dim=128, depth=4, num_heads=4),
}
# What configs and students may be named after.
NAMES = tuple(name for name in ARCHITECTURES if not name.startswith(SAMPLE))
