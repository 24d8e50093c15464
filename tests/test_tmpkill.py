from test_kills import *
from test_kills import kills, template
def test_rest(template):
    print(kills(["convert","convert to parquet","eval","preview","verify"], every=1))
