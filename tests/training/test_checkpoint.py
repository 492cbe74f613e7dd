"""Checkpoints: the last two, checked, safe to load."""

import pytest
import torch

from xinggan.training.checkpoint import load_checkpoint, save_checkpoint


def test_the_newest_checkpoint_is_loaded_and_only_two_are_kept(tmp_path):
    assert load_checkpoint(tmp_path / "absent") is None
    for step in (10, 20, 30):
        save_checkpoint(tmp_path, step, {"weights": torch.full((2,), float(step))})
    step, state = load_checkpoint(tmp_path)
    assert step == 30
    assert state["weights"].tolist() == [30, 30]
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("damage", ["truncated", "empty", "altered"])
def test_a_damaged_newest_checkpoint_is_passed_over_and_named(tmp_path, capsys, damage):
    save_checkpoint(tmp_path, 10, {"step": 10})
    newest = save_checkpoint(tmp_path, 20, {"step": 20})
    content = newest.read_bytes()
    altered = content[:100] + bytes([content[100] ^ 1]) + content[101:]
    newest.write_bytes({"truncated": content[: len(content) // 2], "empty": b"", "altered": altered}[damage])
    assert load_checkpoint(tmp_path) == (10, {"step": 10})
    assert newest.name in capsys.readouterr().out


def test_what_is_saved_after_damaged_later_ones_stays(tmp_path):
    for step in (10, 20):
        save_checkpoint(tmp_path, step, {"step": step}).write_bytes(b"damaged")
    assert load_checkpoint(tmp_path) is None
    save_checkpoint(tmp_path, 5, {"step": 5})
    assert load_checkpoint(tmp_path) == (5, {"step": 5})


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    class Trap:
        def __reduce__(self):
            return (print, ("run",))

    save_checkpoint(tmp_path, 1, {"trap": Trap()})
    with pytest.raises(Exception, match=r"[Ww]eights.only"):
        load_checkpoint(tmp_path)


def test_writing_that_is_interrupted_leaves_what_was_there(tmp_path, monkeypatch):
    save_checkpoint(tmp_path, 10, {"step": 10})
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("os.fsync", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(tmp_path, 20, {"step": 20})
    assert sorted(tmp_path.iterdir()) == before
