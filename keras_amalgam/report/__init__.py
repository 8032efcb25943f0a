"""Results as a page, as pictures and on the console."""

import keras_amalgam.backend  # noqa: F401

from keras_amalgam.report.console import format_table as format_table
from keras_amalgam.report.page import Pictures as Pictures
from keras_amalgam.report.page import render_page as render_page
from keras_amalgam.report.page import write_report as write_report
from keras_amalgam.report.schema import check_report as check_report
from keras_amalgam.report.schema import goal as goal
