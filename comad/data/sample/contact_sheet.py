"""One picture of what the embedded sample holds: scenes, labels, boxes and masks."""

import colorsys
from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from comad.data.sample.scenes import CLASSES, SIZE, Scene, SceneRenderer

ZOOM, GAP = 2, 6
CELL = SIZE * ZOOM + GAP
PAPER, TEXT, FAINT = (250, 250, 248), (30, 30, 30), (110, 110, 110)
OTHER, GROUND = (255, 255, 255), (38, 40, 46)
ROWS = len(CLASSES)
TRAIN_COLUMNS, VAL_COLUMNS, TRIPLES = 5, 3, 2
LEFT, TOP, BOTTOM, SPACE = 116, 104, 64, 36


def class_color(kind: int) -> tuple[int, int, int]:
    """RGB of a class: ten hues, alternately darker and lighter."""
    rgb = colorsys.hsv_to_rgb(kind / len(CLASSES), 0.8, 1.0 if kind % 2 else 0.85)
    return tuple(round(255 * value) for value in rgb)


def draw_contact_sheet(renderers: Mapping[str, SceneRenderer]) -> np.ndarray:
    """The sheet, (H, W, 3) uint8: scenes per class on the left, dense labels on the right.

    Args:
        renderers: of the splits 'train' and 'val'.
    """
    val_left = LEFT + TRAIN_COLUMNS * CELL
    dense_left = val_left + VAL_COLUMNS * CELL + SPACE
    width = dense_left + TRIPLES * 3 * CELL + (TRIPLES - 1) * SPACE // 2 + 20
    bottom = TOP + ROWS * CELL
    sheet = Image.new('RGB', (width, bottom + BOTTOM), PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (LEFT, 12), 'The embedded sample: patterned blobs', 26)
    line = (
        'Scenes of 64 x 64 px. A class is a pattern, at any angle, fineness and in any two tones.'
    )
    _text(draw, (LEFT, 46), line, 16, FAINT)

    _text(draw, (LEFT, TOP - 26), 'ImageNet layout, train', 16)
    _text(draw, (val_left + 4, TOP - 26), 'val', 16)
    for row, name in enumerate(CLASSES):
        y = TOP + row * CELL
        _text(draw, (16, y + CELL // 2 - 14), name, 18)
        for column in range(TRAIN_COLUMNS + VAL_COLUMNS):
            is_val = column >= TRAIN_COLUMNS
            nth = column - TRAIN_COLUMNS * is_val
            scene = renderers['val' if is_val else 'train'].single(row + nth * ROWS)
            sheet.paste(_enlarge(scene.image), (LEFT + column * CELL, y))
    ruler = val_left - GAP // 2 - 1
    draw.line([(ruler, TOP - 24), (ruler, bottom - GAP)], TEXT, 2)

    for triple in range(TRIPLES):
        x = dense_left + triple * (3 * CELL + SPACE // 2)
        for column, caption in enumerate(('scene, train', 'ADE20K labels', 'COCO instances')):
            _text(draw, (x + column * CELL, TOP - 26), caption, 16)
        for row in range(ROWS):
            scene = renderers['train'].several(triple * ROWS + row)
            tiles = (_enlarge(scene.image), _enlarge(_labels(scene)), _instances(scene))
            for column, tile in enumerate(tiles):
                sheet.paste(tile, (x + column * CELL, TOP + row * CELL))
    _legend(draw, dense_left, bottom + 14)
    return np.asarray(sheet)


def _labels(scene: Scene) -> np.ndarray:
    image = np.where(scene.border[..., None], np.uint8(OTHER), np.uint8(GROUND))
    for kind, mask in zip(scene.classes, scene.masks, strict=True):
        image[mask] = class_color(kind)
    return image


def _instances(scene: Scene) -> Image.Image:
    """The scene with tinted masks, boxes and class names."""
    image = scene.image.astype(np.float32)
    for kind, mask in zip(scene.classes, scene.masks, strict=True):
        image[mask] = 0.35 * image[mask] + 0.65 * np.array(class_color(kind))
    tile = _enlarge(image.astype(np.uint8))
    draw = ImageDraw.Draw(tile)
    for kind, mask in zip(scene.classes, scene.masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        left, top = int(columns[0]) * ZOOM, int(rows[0]) * ZOOM
        right, bottom = (int(columns[-1]) + 1) * ZOOM - 1, (int(rows[-1]) + 1) * ZOOM - 1
        draw.rectangle((left, top, right, bottom), outline=class_color(kind), width=1)
        # Beside the box, on the side where there is room.
        x = right + 3 if right + 12 < SIZE * ZOOM else left - 10
        _text(draw, (x, max(0, top - 3)), CLASSES[kind], 15, PAPER)
    return tile


def _legend(draw: ImageDraw.ImageDraw, x: int, y: int) -> None:
    entries = [('other (ignored)', OTHER, 138), ('background', GROUND, 116)]
    entries += [(name, class_color(kind), 76) for kind, name in enumerate(CLASSES)]
    for name, color, space in entries:
        draw.rectangle((x, y, x + 15, y + 15), fill=color, outline=FAINT)
        _text(draw, (x + 20, y - 2), name, 15)
        x += space + 12


def _enlarge(image: np.ndarray) -> Image.Image:
    size = (image.shape[1] * ZOOM, image.shape[0] * ZOOM)
    return Image.fromarray(image).resize(size, Image.Resampling.NEAREST)


def _text(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int, color: tuple = TEXT
) -> None:
    draw.text(place, text, fill=color, font=ImageFont.load_default(size))
