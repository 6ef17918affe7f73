# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.


class ClientError(ValueError):
    """Something the user can mend. The message is one clear line."""
