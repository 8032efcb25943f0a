"""What `report.json` holds: the one list of its keys, with their types, units and ranges.

Every key is always there; a number that was not measured is `None`, in JSON null. Accuracies are
fractions in 0..1.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from keras_amalgam.evaluation.ablation import AblationRun
from keras_amalgam.evaluation.confusion import ConfusionMatrix
from keras_amalgam.evaluation.predictions import standard_error
from keras_amalgam.evaluation.quantities import (
    Bytes,
    Count,
    Curve,
    Fraction,
    Images,
    Milliseconds,
    NonNegative,
    Quantity,
    Seconds,
    Text,
)
from keras_amalgam.report import contradictions, formats, records
from keras_amalgam.report.goals import Goal
from keras_amalgam.training.choosing import Agreement

VERSION = 3

Scalar = str | bool | int | float
Setting = str | bool | int | float | tuple[Scalar, ...]


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """What was measured on the test images of one task, among that task's own classes.

    Attributes:
        num_test_images: Labelled images of the task; 0 if there were none.
        teacher_own_pipeline_accuracy: The teacher's in its own pipeline, from the photographs at
            their own size on; null if there were no photographs.
        teacher_canvas_accuracy: The teacher's on the canvas: on the images as the student sees
            them.
        student_accuracy: The student's, of the Keras model.
        agreement: How often student and teacher choose the same class, right or wrong.
    """

    num_test_images: Count
    teacher_own_pipeline_accuracy: Fraction | None
    teacher_canvas_accuracy: Fraction | None
    student_accuracy: Fraction | None
    agreement: Fraction | None

    @property
    def teacher_accuracy(self) -> float | None:
        """In the teacher's own pipeline where that was measured, else on the canvas."""
        own = self.teacher_own_pipeline_accuracy
        return self.teacher_canvas_accuracy if own is None else own


@dataclass(frozen=True, kw_only=True)
class ComparedOwnership:
    """A student trained for comparison with another rule of which teacher is believed.

    Attributes:
        method: Name of the method that trained it.
        ownership: Which teacher is believed on an unlabelled image: `"source"`, `"joint"` or
            `"per_task"`; `"none"` without soft targets.
        accuracy: Its joint accuracy.
    """

    method: Text
    ownership: Text
    accuracy: Fraction | None


@dataclass(frozen=True, kw_only=True)
class JointAccuracy:
    """Fraction right on the test images of all tasks, over the classes of all, the task unknown.

    Attributes:
        student: The student's.
        teachers: That of the teachers side by side, their logits concatenated.
        compared: That of students trained for comparison, with another ownership.
    """

    student: Fraction | None
    teachers: Fraction | None
    compared: tuple[ComparedOwnership, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TeachersResult:
    """What the teachers cost together.

    Attributes:
        parameters: Weights of their Keras models.
        bytes: Size of their files; null if they are not files.
        latency_ms: Sum of their medians for one image on one thread, as float32 TFLite or, where
            that cannot be, in the teacher's own runtime.
    """

    parameters: Count
    bytes: Bytes | None
    latency_ms: Milliseconds | None


@dataclass(frozen=True, kw_only=True)
class StudentResult:
    """The student, and how it was trained.

    Attributes:
        method: Name of the method that trained it.
        ownership: Which teacher it believed on an unlabelled image: `"source"`, `"joint"` or
            `"per_task"`; `"none"` without soft targets.
        parameters: Weights of the Keras model.
    """

    method: Text
    ownership: Text
    parameters: Count


@dataclass(frozen=True, kw_only=True)
class TriedMethod:
    """A method that was tried on a share of its epochs, to choose between several.

    Attributes:
        method: The method's name.
        epochs: Number of epochs of the trial.
        parameters: Weights of its student.
        agreement: By task, how often its student and the teacher chose the same class of images
            that were kept aside.
        joint_agreement: How often its student, the task unknown, chose as the teacher of the
            image's collection did; null if no collection is known.
    """

    method: Text
    epochs: Count
    parameters: Count
    agreement: dict[str, Fraction]
    joint_agreement: Fraction | None


@dataclass(frozen=True, kw_only=True)
class ChoiceResult:
    """How the student's method was chosen, without a label.

    Attributes:
        by: What decided: `"tasks"`, the mean of the agreements, or `"joint"`.
        num_images: Unlabelled images kept aside, on which students and teachers were compared.
        tried: The methods.
        diverged: Methods that were left out because their loss diverged.
    """

    by: Literal["tasks", "joint"]
    num_images: Images
    tried: tuple[TriedMethod, ...]
    diverged: tuple[Text, ...]

    def score(self, one: TriedMethod) -> float:
        """What the methods are ranked by."""
        return Agreement(one.agreement, one.joint_agreement, self.num_images).score(self.by)

    @property
    def doubt(self) -> str:
        """That the images kept aside do not tell the two best apart, if so; else empty."""
        if len(self.tried) < 2:
            return ""
        second, best = sorted(map(self.score, self.tried))[-2:]
        noise = math.hypot(*(standard_error(value, self.num_images) for value in (second, best)))
        if best - second > noise:
            return ""
        return (
            f"The two best methods differ by {formats.percent(best - second)} points of agreement, "
            f"no more than chance makes of {self.num_images} images (± {formats.percent(noise)}): "
            "more epochs or images may choose otherwise."
        )


@dataclass(frozen=True, kw_only=True)
class ArtifactResult:
    """An exported file or folder: what is in it, what it costs and how well it agrees.

    Attributes:
        format: `"keras"`, `"saved_model"`, `"tflite"` or `"onnx"`.
        precision: What it was written in: `"float32"`, `"float16"`, `"int16"` or `"int8"`; of a
            Keras file the student's dtype policy.
        instead_of: Files in whose place it was written, since they missed a threshold.
        bytes: Size on disk.
        latency_ms: Median for one image on one thread, alone in a process of its own.
        latency_beside_teachers_ms: The same measured as `teachers.latency_ms` is, in the process
            that trained, so that the two can be compared.
        max_abs_error: Largest absolute difference of a logit from the Keras student's.
        tolerance: The largest such difference allowed; null where none is set, as for a quantized
            file, whose worth its agreement and accuracy tell.
        min_agreement: How often it chooses the Keras student's class, in the head where that is
            least often.
        num_images: Images on which it was compared with the Keras student.
        accuracy: Fraction right on each task's test images, of the file itself; null for a file
            that was not run on them.
    """

    format: Text
    precision: Text
    instead_of: tuple[Text, ...] = ()
    bytes: Bytes | None
    latency_ms: Milliseconds | None
    latency_beside_teachers_ms: Milliseconds | None = None
    max_abs_error: NonNegative | None
    tolerance: NonNegative | None
    min_agreement: Fraction | None
    num_images: Images | None
    accuracy: dict[str, Fraction | None] | None = None


@dataclass(frozen=True, kw_only=True)
class JobSeconds:
    """Wall-clock times.

    Attributes:
        amalgamate: Of the student's training, without the comparisons'.
        total: Of the whole job.
    """

    amalgamate: Seconds | None
    total: Seconds | None


@dataclass(frozen=True, kw_only=True)
class CommonSpaceResult:
    """What was measured in the common space.

    Attributes:
        class_retrieval: By teacher, how often its feature nearest to the student's, of another
            image, has the image's class.
        num_images: Test images, of all teachers together.
    """

    class_retrieval: dict[str, Fraction]
    num_images: Images


@dataclass(frozen=True, kw_only=True)
class Report:
    """Everything that one run of a recipe measured.

    Attributes:
        version: Of this list of keys.
        recipe: The recipe's name.
        created: When the run ended, in UTC.
        tasks: By task, in the order of the teachers.
        joint_accuracy: Over the classes of all tasks.
        goals: What the recipe aimed at, with what was measured.
        teachers: What the teachers cost together.
        student: The student and how it was trained.
        artifacts: By name of the file or folder beside the report.
        seconds: Wall-clock times.
        choice: How the student's method was chosen; null if it was given.
        ablation: The run with all terms and one for each term removed; null if not run.
        history: Losses and learning rate of each epoch, under the keys `loss`, `<term>`,
            `<term>/<teacher>` and `<term>/<teacher>/<component>`.
        confusion_matrix: Joint decisions of the student; null without test images of every task.
        common_space: Null without test images or without a common space.
        settings: What a reader must know to judge the run. The canvas of the student's images is
            here under `canvas`: height, width and method.
        notes: Sentences for the reader.
        versions: Of the software, by package, and under `onednn` whether TensorFlow computed with
            it, `"on"` or `"off"`.

    Raises:
        ValueError: If a value is ill-typed, out of range, or contradicts another.

    Example:
        ```python
        report = Report.from_dict(json.loads(Path("runs/demo/report.json").read_text()))
        report.tasks["digits"].student_accuracy
        report.artifacts["student_int8.tflite"].accuracy["digits"]
        ```
    """

    version: Literal[3] = VERSION
    recipe: Text
    created: Text | None = None
    tasks: Annotated[dict[str, TaskResult], Quantity("at least one task", 1)]
    joint_accuracy: JointAccuracy
    goals: tuple[Goal, ...] = ()
    teachers: TeachersResult
    student: StudentResult
    artifacts: dict[str, ArtifactResult]
    seconds: JobSeconds
    choice: ChoiceResult | None = None
    ablation: tuple[AblationRun, ...] | None = None
    history: dict[str, Curve] | None = None
    confusion_matrix: ConfusionMatrix | None = None
    common_space: CommonSpaceResult | None = None
    settings: dict[str, Setting]
    notes: tuple[Text, ...] = ()
    versions: dict[str, Text]

    def __post_init__(self) -> None:
        """Refuse what could not be read back."""
        records.check(Report, records.plain(self), "report")
        contradictions.refuse(self)

    @property
    def num_images(self) -> dict[str, int]:
        """Test images by task."""
        return {name: task.num_test_images for name, task in self.tasks.items()}

    def to_dict(self) -> dict[str, Any]:
        """The report as `report.json` has it, the keys in the order of the fields."""
        return records.plain(self)

    @classmethod
    def from_dict(cls, report: Mapping[str, Any]) -> Self:
        """The report that `report.json` holds.

        Args:
            report: The file's content. NumPy numbers and arrays are taken too.

        Raises:
            ValueError: If a value is missing, misspelt, ill-typed, out of range or contradicts
                another, naming the key, what it holds and what it must hold.
        """
        found = records.plain(report)
        if isinstance(found, dict) and found.get("version") != VERSION:
            raise ValueError(
                f"report.version is not right. Received: {found.get('version')!r}. Expected: "
                f"{VERSION}. Another version has other keys: run the recipe again."
            )
        records.check(cls, found, "report")
        return records.build(cls, found)
