"""The page of a study, and a browser to open it with."""

import os
import shutil

import pytest

from comad.report.page import write_report
from tests.report.study import HOSTILE, boards_of, make_study

BROWSERS = ('chromium', 'chromium-browser', 'google-chrome')
ADVICE = 'apt install chromium chromium-driver, or set COMAD_CHROME and COMAD_CHROMEDRIVER'


@pytest.fixture(scope='session')
def study(tmp_path_factory):
    """Folder of a study where a method, a licence and a class are called like a script."""
    root = tmp_path_factory.mktemp('study')
    make_study(root, name=HOSTILE)
    return root


@pytest.fixture(scope='session')
def page(study):
    """The report of that study."""
    return write_report(boards_of(study), study / 'report.html', root=study)


def missing(reason):
    """A missing browser is a skip with its reason, or a failure where one is asked for."""
    message = f'no browser test: {reason}; {ADVICE}'
    if os.environ.get('COMAD_NEED_BROWSER'):
        pytest.fail(message)
    pytest.skip(message)


@pytest.fixture(scope='session')
def browser():
    """Headless Chromium without a network."""
    try:
        from selenium import webdriver
    except ImportError:
        missing('selenium is not installed (setup.cfg, extra dev)')
    program = os.environ.get('COMAD_CHROME') or next(filter(None, map(shutil.which, BROWSERS)), '')
    driver = os.environ.get('COMAD_CHROMEDRIVER') or shutil.which('chromedriver')
    if not program or not driver:
        missing(f'{"chromedriver" if program else "Chromium"} is not on the PATH')
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (
        '--headless=new',
        '--no-sandbox',
        '--disable-dev-shm-usage',
        '--disable-gpu',
        '--disable-background-networking',
        '--host-resolver-rules=MAP * ~NOTFOUND',
        '--window-size=1440,1000',
    ):
        options.add_argument(argument)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    opened = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield opened
    opened.quit()
