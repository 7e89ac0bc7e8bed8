from .budget import check_report_path as check_report_path
from .label_writing import LabelReport as LabelReport
from .label_writing import report_labels as report_labels
from .writing import Report as Report
from .writing import report as report
