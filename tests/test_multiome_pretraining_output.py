"""Numbers fit for JSON; the folder itself is tested where the script runs."""

import json
import math

from omics_transformers.training.multiome_pretraining_output import none_for_nan


def test_nan_becomes_none_at_any_depth() -> None:
    found = none_for_nan({"loss": math.nan, "kinds": {"rna": {"rna": {"loss": math.nan, "cells": 3}}}, "data": [1.5]})
    assert found == {"loss": None, "kinds": {"rna": {"rna": {"loss": None, "cells": 3}}}, "data": [1.5]}
    assert json.loads(json.dumps(found, allow_nan=False)) == found
