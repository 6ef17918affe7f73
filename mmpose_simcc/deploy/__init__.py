# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What people ship: ONNX files, and a client that runs them."""
