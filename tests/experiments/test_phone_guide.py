"""The commands of docs/phone.md, from modules and checkpoints to the phone file."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TASKS = {"birds": 3, "flowers": 2, "insects": 2}


@pytest.mark.slow
def test_commands_of_the_guide_lead_from_checkpoints_to_the_phone_file(tmp_path):
    """As they stand, but for the number of steps; the networks and photographs are small."""
    from benchmarks import phone

    guide = (ROOT / "docs" / "phone.md").read_text(encoding="utf-8")
    phone.write_inputs(tmp_path, guide, TASKS, 80, width=4, size=(120, 90))
    for number in range(TASKS["birds"]):
        folder = tmp_path / "test" / "birds" / f"birds {number}"
        folder.mkdir(parents=True)
        (folder / "one.jpg").write_bytes(phone.photograph(number, (120, 90)))
    install, *commands = phone.commands(guide)
    assert install[:2] == ["pip", "install"] and len(commands) == 5
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    said = []
    for command in commands:
        if "amalgamate" in command:
            place = command.index("--epochs")
            command = [*command[:place], "--steps=2", *command[place + 2 :]]
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env=os.environ | {"PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
        assert (tmp_path / "runs").exists() is (len(said) > 2), "A dry run writes nothing."
    converted, plan, _, _, predicted = said
    assert converted.count("verified against PyTorch") == 3
    assert "images/s: about" in plan.splitlines()[-1]
    report = json.loads((tmp_path / "runs" / "nature" / "report.json").read_text())
    assert report["tasks"]["birds"]["num_test_images"] == 3
    small = [name for name in report["artifacts"] if name.startswith("student_")]
    assert len(small) == 1 and (tmp_path / "runs" / "nature" / small[0]).is_file()
    assert [file.suffix for file in (tmp_path / "phone").glob("student_*.tflite")] == [".tflite"]
    assert all(task in predicted for task in TASKS) and (tmp_path / "page.html").is_file()
