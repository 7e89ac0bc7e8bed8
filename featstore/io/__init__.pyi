from .atomic import replacing as replacing
from .outputs import check_head_output as check_head_output
from .outputs import check_output as check_output
from .outputs import check_outside_stores as check_outside_stores
from .stamps import is_there as is_there
