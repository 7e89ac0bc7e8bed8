from .cut_choice import choose_cut as choose_cut
from .cut_choice import network_cuts as network_cuts
from .finetuning import Tuned as Tuned
from .finetuning import TuningInterrupted as TuningInterrupted
from .finetuning import finetune as finetune
from .options import RECIPES as RECIPES
from .options import TuningOptions as TuningOptions
from .report import report_text as report_text
