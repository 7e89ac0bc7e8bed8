from .writing import Report as Report
from .writing import check_report_path as check_report_path
from .writing import report as report
