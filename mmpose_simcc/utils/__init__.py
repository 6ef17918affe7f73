# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What every other part may use: it imports nothing of the project."""
