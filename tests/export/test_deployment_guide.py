"""The guide's code blocks run as they stand, in the folder of the artifacts."""

import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

REPOSITORY = Path(__file__).parents[2]
GUIDE = REPOSITORY / "docs" / "deployment.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def output_of_every_block(exported, images):
    keras.utils.save_img(exported.folder / "photo.png", images[0], scale=False)
    # One process for all blocks, each with names of its own: importing TensorFlow takes longest.
    script = f"import sys\nsys.path.insert(0, {str(REPOSITORY)!r})\n" + "".join(
        f"print('=== block')\nexec(compile({block!r}, 'block {index}', 'exec'), {{}})\n"
        for index, block in enumerate(BLOCKS)
    )
    result = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", "-c", script],
        cwd=exported.folder,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split("=== block\n")[1:]


@pytest.mark.slow
def test_every_block_decides_as_the_student_does(output_of_every_block, student, images):
    expected = {
        f"{task} {student.class_names[task][logits[0].argmax()]}"
        for task, logits in student.predict(images[:1], verbose=0).items()
    }
    printed = [set(output.splitlines()) for output in output_of_every_block]
    assert len(printed) == len(BLOCKS) == 6
    assert [lines == expected for lines in printed] == [True, True, False, True, True, True]


@pytest.mark.slow
def test_latency_block_prints_milliseconds(output_of_every_block):
    assert re.fullmatch(r"\d+\.\d\d ms, 95th percentile \d+\.\d\d ms\n", output_of_every_block[2])
