"""The contact sheet shows different people of both splits: plain, with skeletons, and through their body masks."""

import numpy as np

from xinggan.data.contact_sheet import GAP, PEOPLE, draw_contact_sheet
from xinggan.data.masks import body_masks
from xinggan.data.packed import PackedSplit

HEIGHT, WIDTH = 256, 20


def split(name: str, people: int, brightness: int) -> PackedSplit:
    images = np.full((2 * people, HEIGHT, WIDTH, 3), brightness, dtype=np.uint8)
    images += np.arange(2 * people, dtype=np.uint8)[:, None, None, None]
    poses = np.tile(np.array([10, 100, 1], dtype=np.float32), (2 * people, 18, 1))
    masks = np.packbits(body_masks(poses, HEIGHT, WIDTH), axis=-1)
    identities = np.arange(2 * people) // 2
    return PackedSplit(name, images, poses, masks, identities, np.zeros((1, 2), np.int32), ["x"] * 2 * people)


def cell(sheet: np.ndarray, row: int, column: int) -> np.ndarray:
    top, left = GAP + row * (HEIGHT + GAP), GAP + column * (WIDTH + GAP)
    return sheet[top : top + HEIGHT, left : left + WIDTH]


def test_every_column_is_another_person_plain_with_skeleton_and_masked():
    train, test = split("train", 40, brightness=100), split("test", 3, brightness=60)
    sheet = np.asarray(draw_contact_sheet([train, test]))
    assert sheet.shape == (6 * (HEIGHT + GAP) + GAP, PEOPLE * (WIDTH + GAP) + GAP, 3)
    shown = [int(cell(sheet, 0, column)[0, 0, 0]) - 100 for column in range(PEOPLE)]
    assert len({row // 2 for row in shown}) == PEOPLE
    assert [int(cell(sheet, 3, column)[0, 0, 0]) - 60 for column in range(7)] == [0, 1, 2, 3, 4, 5, 195]
    plain, posed, masked = (cell(sheet, row, 0).astype(int) for row in range(3))
    assert (plain == 100).all()
    changed = (posed != plain).any(axis=-1)
    assert changed[100, 10] and changed.sum() < 60
    inside = np.unpackbits(train.masks[0], axis=-1, count=WIDTH).astype(bool)
    assert (masked[inside] == 100).all() and (masked[~inside] == 35).all()
