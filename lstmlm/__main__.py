"""`python -m lstmlm`"""

from lstmlm.cli.main import main

main()
