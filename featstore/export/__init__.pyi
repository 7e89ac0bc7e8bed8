from .exported import ExportedModel as ExportedModel
from .exporting import FORMATS as FORMATS
from .exporting import QUANTIZATIONS as QUANTIZATIONS
from .exporting import export_head as export_head
