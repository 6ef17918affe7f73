# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
