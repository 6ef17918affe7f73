# Copyright (c) mmpose_simcc contributors. Licensed under Apache-2.0.
"""What a comparison shows: tables, plots, pictures, and a page with all of them."""

from .page import remarks, write_report
from .tables import print_table

__all__ = ['print_table', 'remarks', 'write_report']
