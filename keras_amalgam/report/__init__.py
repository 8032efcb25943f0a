"""Results as dataclasses, as a page, as pictures and on the console."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.evaluation.ablation import AblationRun as AblationRun
from keras_amalgam.evaluation.confusion import ConfusionMatrix as ConfusionMatrix
from keras_amalgam.report.console import format_table as format_table
from keras_amalgam.report.goals import Goal as Goal
from keras_amalgam.report.goals import goal as goal
from keras_amalgam.report.json_schema import json_schema as json_schema
from keras_amalgam.report.page import Pictures as Pictures
from keras_amalgam.report.page import render_page as render_page
from keras_amalgam.report.page import write_report as write_report
from keras_amalgam.report.results import ArtifactResult as ArtifactResult
from keras_amalgam.report.results import ChoiceResult as ChoiceResult
from keras_amalgam.report.results import CommonSpaceResult as CommonSpaceResult
from keras_amalgam.report.results import ComparedOwnership as ComparedOwnership
from keras_amalgam.report.results import JobSeconds as JobSeconds
from keras_amalgam.report.results import JointAccuracy as JointAccuracy
from keras_amalgam.report.results import Report as Report
from keras_amalgam.report.results import StudentResult as StudentResult
from keras_amalgam.report.results import TaskResult as TaskResult
from keras_amalgam.report.results import TeachersResult as TeachersResult
from keras_amalgam.report.results import TriedMethod as TriedMethod
