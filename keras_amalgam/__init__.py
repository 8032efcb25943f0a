"""Merge trained networks into one compact multi-task student, without labels.

Teachers of different architectures, frameworks and tasks go in; the student imitates their answers
and, in a space common to all, their features. See `Amalgamator`.
"""

from keras_amalgam import tasks as tasks
from keras_amalgam.amalgamator import Amalgamator as Amalgamator
from keras_amalgam.label_space import LabelSpace as LabelSpace
from keras_amalgam.preprocessing import Preprocessing as Preprocessing
from keras_amalgam.student import build_student as build_student
from keras_amalgam.taps import Tap as Tap
from keras_amalgam.teacher import Teacher as Teacher
from keras_amalgam.terms import AmalgamationTerm as AmalgamationTerm
from keras_amalgam.terms import CommonFeatures as CommonFeatures
from keras_amalgam.terms import SoftTargets as SoftTargets
from keras_amalgam.version import __version__ as __version__
