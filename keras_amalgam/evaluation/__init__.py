"""Accuracies per task and over the label space, and what each term is worth.

Example:
```python
from keras_amalgam import evaluation

space = LabelSpace(student.class_names)
said = evaluation.evaluate(evaluation.predictor(student), test, space)
said.task_accuracy, said.joint_accuracy
```
"""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.evaluation.ablation import AblationRun as AblationRun
from keras_amalgam.evaluation.ablation import Removal as Removal
from keras_amalgam.evaluation.ablation import noise as noise
from keras_amalgam.evaluation.ablation import removals as removals
from keras_amalgam.evaluation.confusion import ConfusionMatrix as ConfusionMatrix
from keras_amalgam.evaluation.embedding import CommonSpace as CommonSpace
from keras_amalgam.evaluation.embedding import class_retrieval as class_retrieval
from keras_amalgam.evaluation.embedding import common_space as common_space
from keras_amalgam.evaluation.gradients import gradient_norms as gradient_norms
from keras_amalgam.evaluation.joint import Evaluation as Evaluation
from keras_amalgam.evaluation.joint import agreement as agreement
from keras_amalgam.evaluation.joint import confusion_matrix as confusion_matrix
from keras_amalgam.evaluation.joint import evaluate as evaluate
from keras_amalgam.evaluation.joint import joint_accuracy as joint_accuracy
from keras_amalgam.evaluation.own_pipeline import own_accuracy as own_accuracy
from keras_amalgam.evaluation.predictions import collect as collect
from keras_amalgam.evaluation.predictions import difference as difference
from keras_amalgam.evaluation.predictions import predictor as predictor
from keras_amalgam.evaluation.predictions import standard_error as standard_error
from keras_amalgam.evaluation.predictions import task_accuracy as task_accuracy
from keras_amalgam.evaluation.predictions import teachers_predictor as teachers_predictor
from keras_amalgam.evaluation.samples import Sample as Sample
from keras_amalgam.evaluation.samples import draw_samples as draw_samples
