"""How many weights a Keras configuration asks for, before any of them is made."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.legacy.saving import saving_utils

from keras_amalgam.files.keras_bounds import SMALL, declared_bytes

# Keras 3.15 shows neither of its lists outside: variables that a stateless scope left without a
# value, which the next scope would make, and the numbers of automatic names.
_WAITING, _NUMBERS = "uninitialized_variables", "object_name_uids"


def refuse_excess(
    path: Path, config: Any, custom_objects: Mapping[str, Any] | None, safe_mode: bool = True
) -> None:
    """Refuse a file whose configuration asks for many more weights than it holds.

    Keras makes a network before it looks for the weights, so that a small file could fill the
    memory. Here its layers are built without any values.

    Args:
        path: The file, checked by `check_file`.
        config: Its configuration, parsed.
        custom_objects: As Keras takes them.
        safe_mode: As Keras takes it.

    Raises:
        ValueError: If it asks for more than twice what its arrays declare, small networks excepted.
    """
    asked, held = _asked_bytes(config, custom_objects, safe_mode), declared_bytes(path)
    if asked > max(SMALL, 2 * held):
        raise ValueError(
            f"{path.name!r} asks for weights that it does not hold. Received: a configuration of "
            f"{asked:,} bytes of weights, and arrays of {held:,}. Copy or save it again."
        )


def _asked_bytes(config: Any, custom_objects: Mapping[str, Any] | None, safe_mode: bool) -> int:
    """Of all weights that are made until the network stands, or Keras refuses it."""
    before = global_state.get_global_attribute(_WAITING)
    numbers = copy.deepcopy(global_state.get_global_attribute(_NUMBERS))
    global_state.set_global_attribute(_WAITING, [])
    try:
        with keras.StatelessScope(initialize_variables=False):
            _build(copy.deepcopy(config), custom_objects, safe_mode)
    except Exception:  # Whatever it is, it comes again where the file is loaded, and is said there.
        pass
    finally:
        made = global_state.get_global_attribute(_WAITING) or []
        global_state.set_global_attribute(_WAITING, before or [])
        global_state.set_global_attribute(_NUMBERS, numbers)
    return sum(_bytes(variable) for variable in made)


def _build(config: Any, custom_objects: Mapping[str, Any] | None, safe_mode: bool) -> None:
    own = dict(custom_objects or {})
    if "module" in config:  # As in .keras files; legacy ones name no modules.
        config["compile_config"] = None
        keras.saving.deserialize_keras_object(config, custom_objects=own, safe_mode=safe_mode)
    else:
        saving_utils.model_from_config(config, custom_objects=own)


def _bytes(variable: Any) -> int:
    size = tf.as_dtype(variable.dtype).size
    for side in variable.shape:
        size *= int(side)
    return size
