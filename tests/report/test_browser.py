"""The report in a real browser: it loads clean, sorts, filters, tells protocols, is no script."""

import io

import numpy as np
import pytest
from PIL import Image

from tests.report.study import HOSTILE

pytestmark = pytest.mark.browser

# Texts of a column per group, in the order shown.
COLUMN = """
const [table, column] = arguments;
return [...table.tBodies].map((body) => [...body.rows]
  .filter((row) => !row.classList.contains('group') && !row.hidden)
  .map((row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim()));
"""


@pytest.fixture
def opened(browser, page):
    """The page, opened anew."""
    browser.get(page.as_uri())
    return browser


def css(driver, selector):
    return driver.find_elements('css selector', selector)


def header(driver, table, text):
    """A column's number and its button."""
    for number, button in enumerate(table.find_elements('css selector', 'thead th button')):
        if button.text.replace('\n', ' ').split(' (')[0] == text:
            return number, button
    raise AssertionError(f'no column {text}')


def shown(driver, table, column):
    return driver.execute_script(COLUMN, table, column)


def sort_state(table):
    cells = table.find_elements('css selector', 'thead th[aria-sort]')
    return [cell.get_attribute('aria-sort') for cell in cells]


def test_it_loads_without_a_word_in_the_log(opened):
    assert opened.title == 'comad-bench leaderboard, full scale'
    assert opened.get_log('browser') == []
    assert len(css(opened, 'figure svg')) > 10
    assert all(
        opened.execute_script('return arguments[0].naturalWidth', i) for i in css(opened, 'img')
    )
    wide = 'return document.documentElement.scrollWidth - document.documentElement.clientWidth'
    assert opened.execute_script(wide) <= 0


def test_a_hostile_method_name_is_shown_and_not_run(opened):
    names = [cell.get_attribute('data-v') for cell in css(opened, '#classification th.method')]
    assert HOSTILE in names
    assert HOSTILE in [cell.text for cell in css(opened, '#classes th.method')]
    assert 'owned' not in opened.title
    assert len(css(opened, 'script')) == 1 and css(opened, 'img[src="x"]') == []


@pytest.mark.parametrize('name', ['value', 'method', 'pretraining'])
def test_a_header_sorts_inside_the_groups_and_reverses(opened, name):
    table = css(opened, '#classification table')[0]
    column, button = header(opened, table, name)
    before = shown(opened, table, column)
    assert [len(group) for group in before] == [5, 5]
    button.click()
    first, once = sort_state(table), shown(opened, table, column)
    button.click()
    second, twice = sort_state(table), shown(opened, table, column)
    assert sorted(first + second) == ['ascending', 'descending']

    def expected(group, order):
        known = [value for value in group if value]
        key = str.casefold if name == 'method' else float
        known.sort(key=key, reverse=order == ['descending'])
        return known + [''] * (len(group) - len(known))

    assert once == [expected(group, first) for group in before]
    assert twice == [expected(group, second) for group in before]
    assert once != twice


def test_numbers_are_no_texts(opened):
    table = css(opened, '#classification table.published')[0]
    column, button = header(opened, table, 'value')
    button.click()
    assert shown(opened, table, column) == [['82.1', '75.4', '9.5']]


def test_the_keyboard_sorts_too(opened):
    from selenium.webdriver.common.keys import Keys

    table = css(opened, '#classification table')[0]
    column, button = header(opened, table, 'rank')
    button.send_keys(Keys.ENTER)
    assert sort_state(table) == ['ascending']
    assert shown(opened, table, column) == [['1', '1', '3', '4', '']] * 2
    opened.switch_to.active_element.send_keys(Keys.SPACE)
    assert sort_state(table) == ['descending']
    assert shown(opened, table, column) == [['4', '3', '1', '1', '']] * 2


def test_the_filter_hides_and_counts(opened):
    from selenium.webdriver.support.select import Select

    box = css(opened, '#classification input')[0]
    count = css(opened, '#classification output')[0]
    measured, published = css(opened, '#classification table')
    assert count.text == '13 of 13 rows'
    box.send_keys('CoMAD')
    assert count.text == '3 of 13 rows'
    assert shown(opened, measured, 0) == [['comad'], ['comad']]
    box.send_keys(' mean pool')
    assert count.text == '1 of 13 rows' and shown(opened, published, 0) == [[]]
    assert not css(opened, '#classification tbody')[0].is_displayed()
    box.clear()
    Select(css(opened, '#classification select[name=kind]')[0]).select_by_visible_text('published')
    assert count.text == '3 of 13 rows' and shown(opened, measured, 0) == [[], []]
    detection = css(opened, '#detection select[name=metric]')[0]
    Select(detection).select_by_visible_text('segm_mAP')
    assert css(opened, '#detection output')[0].text == '2 of 8 rows'


def test_the_whole_protocol_and_the_source_are_a_click_away(opened):
    from comad.tasks.task import TASKS

    button = css(opened, '#classification tr.group button')[0]
    panel = css(opened, f'#{button.get_attribute("popovertarget")}')[0]
    assert not panel.is_displayed()
    button.click()
    assert panel.is_displayed()
    told = [name.text for name in panel.find_elements('css selector', 'dt')]
    assert {name.replace('_', ' ') for name in TASKS['linear'].protocol_fields} <= set(told)
    assert '90 epochs' in panel.text and '90 epochs' in button.get_attribute('title')
    panel.find_element('css selector', 'button').click()
    assert not panel.is_displayed()
    details = css(opened, '#classification table.published th.method button')[0]
    details.click()
    shown_panel = css(opened, f'#{details.get_attribute("popovertarget")}')[0]
    assert 'arXiv:2508.04816 abstract' in shown_panel.text and 'abstract' in shown_panel.text


def picture(driver):
    return np.asarray(Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert('L'), float)


@pytest.mark.parametrize('section', ['classification', 'curves'])
def test_light_and_dark(opened, tmp_path, section):
    means = {}
    for scheme in ('light', 'dark'):
        feature = {'name': 'prefers-color-scheme', 'value': scheme}
        opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': [feature]})
        opened.execute_script(f'document.getElementById("{section}").scrollIntoView()')
        opened.save_screenshot(str(tmp_path / f'{section}_{scheme}.png'))
        pixels = picture(opened)
        assert pixels.std() > 5, 'a blank page'
        means[scheme] = float(np.median(pixels))
    opened.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})
    assert means['light'] > 230 and means['dark'] < 45


def test_a_phone_scrolls_tables_in_their_box(opened):
    metrics = {'width': 390, 'height': 800, 'deviceScaleFactor': 1, 'mobile': True}
    opened.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)
    try:
        assert opened.execute_script('return document.documentElement.scrollWidth') <= 390
        box = css(opened, '#classification .scroll')[0]
        assert opened.execute_script('return arguments[0].scrollWidth', box) > 390
    finally:
        opened.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
