"""The page to review a transcript, in a browser: chromium and its driver, by selenium."""

import io
import shutil

import numpy as np
import pytest
import soundfile as sf
from tools import rendered

from slyther_cli.audio.opus import OpusWriter
from slyther_cli.decode.recording import Recording
from slyther_cli.decode.transcript import TranscriptWriter

pytest.importorskip("selenium", reason="needs selenium (pip install selenium)")
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM = shutil.which("chromium")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        CHROMIUM is None or shutil.which("chromedriver") is None, reason="needs chromium and chromium-driver"
    ),
]
TEXT = "the ferry leaves at quarter to ten but nobody told us where it goes"
VOCABULARY = TEXT.split()


def talk(seconds, speakers=2):
    """Segments of 12 words a second apart, taking turns; every ninth word is unsure."""
    rows, at, count = [], 0.5, 0
    while at + 4.5 < seconds:
        words = []
        for _ in range(12):
            sure = 0.3 if count % 9 == 5 else 0.9
            word = " " + VOCABULARY[count % len(VOCABULARY)]
            words.append(
                {"word": word, "start": round(at, 3), "end": round(at + 0.3, 3), "probability": sure}
            )
            at, count = at + 0.35, count + 1
        if len(rows) % 6 == 2:  # the speaker changes: a paragraph ends
            words[-1]["word"] += "."
        row = {"start": words[0]["start"], "end": words[-1]["end"], "words": words}
        row["text"] = "".join(word["word"] for word in words)
        rows.append(row | {"speaker": f"S{len(rows) // 3 % speakers + 1}"})
        at += 0.4
    return rows


def make_page(folder, seconds, name="a #1 talk's 50%.wav"):
    rate = 8_000
    x = np.random.default_rng(0).standard_normal(rate * seconds) * 0.1
    sf.write(folder / name, x * (1 + np.sin(np.arange(len(x)) / 9_000)) / 2, rate, subtype="PCM_U8")
    rows = talk(seconds)
    peaks = [int(50 + 49 * np.sin(i / 9)) for i in range(1500)]
    recording = Recording(str(folder / name), float(seconds), peaks)
    with TranscriptWriter({"html": folder / "talk.html"}, recording=recording) as writer:
        for row in rows:
            writer.write(row)
        writer.commit()
    return rows


@pytest.fixture
def browser(tmp_path):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("headless=new", "no-sandbox", "disable-gpu", "window-size=1000,800", "mute-audio"):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "down")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    driver = webdriver.Chrome(options=options, service=service)
    driver.set_script_timeout(60)
    yield driver
    driver.quit()


def opened(browser, folder):
    browser.get((folder / "talk.html").as_uri())
    wait(browser, lambda: browser.execute_script("return audio.readyState >= 1"))
    assert browser.execute_script("return chooser.hidden")
    return browser


def wait(browser, condition, seconds=60):
    WebDriverWait(browser, seconds).until(lambda _: condition())


def now(browser):
    return browser.execute_script("return audio.currentTime")


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def keys(browser, *pressed):
    browser.switch_to.active_element.send_keys(*pressed)


def downloaded(browser, folder, form):
    find(browser, f"[data-format={form}]").click()
    path = folder / "down" / f"a #1 talk's 50%.{form}"
    wait(browser, path.exists)
    text = path.read_text(encoding="utf-8")
    path.unlink()
    return text


def test_a_click_on_a_word_jumps_there_and_it_lights_up(browser, tmp_path):
    rows = make_page(tmp_path, 60)
    opened(browser, tmp_path)
    word = browser.find_elements(By.CSS_SELECTOR, "li[data-index='3'] .word")[4]
    word.click()
    start = rows[3]["words"][4]["start"]
    wait(browser, lambda: abs(now(browser) - start) < 0.01)
    assert "now" in word.get_attribute("class") and word.text == rows[3]["words"][4]["word"].strip()
    assert len(browser.find_elements(By.CSS_SELECTOR, ".word.now")) == 1
    assert find(browser, "li.here").get_attribute("data-index") == "3"
    unsure = find(browser, "li[data-index='0'] .word.low")
    assert unsure.get_attribute("title") == "uncertain: 30 %"
    assert [one.text for one in browser.find_elements(By.CSS_SELECTOR, "#speakers li")] == ["S1", "S2"]
    find(browser, "li[data-index='0'] .time").click()
    wait(browser, lambda: now(browser) > rows[0]["words"][2]["start"])
    lit = browser.execute_script("return document.querySelector('.word.now')?.dataset.index")
    assert int(lit) >= 1
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_keys(browser, tmp_path):
    rows = make_page(tmp_path, 60)
    opened(browser, tmp_path)
    keys(browser, Keys.ARROW_RIGHT)
    assert abs(now(browser) - 5) < 0.01
    keys(browser, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert abs(now(browser) - 5) < 0.01
    keys(browser, Keys.ARROW_DOWN)
    assert abs(now(browser) - rows[1]["start"]) < 0.01  # 5 s is at the end of the first sentence
    keys(browser, Keys.ARROW_UP)
    assert abs(now(browser) - rows[0]["start"]) < 0.01
    keys(browser, " ")
    wait(browser, lambda: not browser.execute_script("return audio.paused"))
    keys(browser, " ")
    wait(browser, lambda: browser.execute_script("return audio.paused"))
    wave = find(browser, "#wave")
    assert wave.get_attribute("aria-valuetext").endswith(" of 1:00")
    wave.click()
    assert abs(now(browser) - 30) < 0.5


def test_downloads_have_the_corrections(browser, tmp_path):
    rows = make_page(tmp_path, 60)
    opened(browser, tmp_path)
    for form in ("txt", "srt", "vtt"):
        assert downloaded(browser, tmp_path, form) == rendered(form, rows)
    find(browser, "li[data-index='1'] .word").click()
    keys(browser, "e")
    text = find(browser, "li[data-index='1'] .text")
    assert browser.switch_to.active_element == text
    old = text.text.split()
    keys(browser, Keys.CONTROL, "a")
    keys(browser, *f"{' '.join(old[:3])} <b> & two {' '.join(old[4:])}", Keys.ENTER)
    assert text.text.split() == [*old[:3], "<b>", "&", "two", *old[4:]]
    keys(browser, Keys.ARROW_DOWN, "e", Keys.CONTROL, "a", Keys.NULL, "no", Keys.ESCAPE)  # dropped
    rows[1]["text"] = " " + text.text
    for row in rows:
        del row["words"]
    assert downloaded(browser, tmp_path, "srt") == rendered("srt", rows)
    assert " &lt;b> &amp; two " in downloaded(browser, tmp_path, "vtt")
    new = browser.find_elements(By.CSS_SELECTOR, "li[data-index='1'] .new")
    assert [word.text for word in new] == ["<b>", "&", "two"]
    new[0].click()  # the three share the time of the word that they replace
    assert abs(now(browser) - (rows[1]["start"] + 3 * 0.35)) < 0.01


def edit(browser, index, text):
    """Segment ``index`` gets another text, by the keyboard."""
    find(browser, f"li[data-index='{index}'] .word").click()
    keys(browser, "e")
    keys(browser, Keys.CONTROL, "a")
    keys(browser, *text, Keys.ENTER)


def shown(browser, index):
    return find(browser, f"li[data-index='{index}'] .text").text


def test_edits_are_kept_until_they_are_discarded(browser, tmp_path):
    rows = make_page(tmp_path, 60)
    opened(browser, tmp_path)
    discard = find(browser, "#discard")
    before = [shown(browser, i) for i in (1, 2)]
    assert not discard.is_displayed() and find(browser, "#status").text == ""
    edit(browser, 1, "<b>bold</b> & so on")
    assert find(browser, "#status").text == "1 edit, kept in this browser." and discard.is_displayed()
    edit(browser, 2, "second")
    srt = downloaded(browser, tmp_path, "srt")
    times = browser.execute_script("return document.querySelectorAll('.word.new').length")
    opened(browser, tmp_path)  # no question whether to leave
    assert find(browser, "#status").text == "Restored 2 edits."
    assert [shown(browser, i) for i in (1, 2)] == ["<b>bold</b> & so on", "second"]
    assert downloaded(browser, tmp_path, "srt") == srt and "second" in srt
    assert browser.execute_script("return document.querySelectorAll('.word.new').length") == times == 5
    find(browser, "li[data-index='1'] .new").click()
    assert abs(now(browser) - rows[1]["start"]) < 0.01
    edit(browser, 2, before[1])  # as it was: no edit any more
    assert find(browser, "#status").text == "1 edit, kept in this browser."
    find(browser, "#discard").click()
    browser.switch_to.alert.dismiss()
    assert shown(browser, 1) == "<b>bold</b> & so on"
    find(browser, "#discard").click()
    browser.switch_to.alert.accept()
    assert [shown(browser, i) for i in (1, 2)] == before and not discard_shown(browser)
    assert downloaded(browser, tmp_path, "txt") == rendered("txt", rows)
    opened(browser, tmp_path)
    assert [shown(browser, i) for i in (1, 2)] == before and not discard_shown(browser)
    assert browser.execute_script("return localStorage.length") == 0
    edit(browser, 1, "again")
    make_page(tmp_path, 90)  # another transcript in the same place
    opened(browser, tmp_path)
    assert shown(browser, 1) == before[0] and not discard_shown(browser)


def discard_shown(browser):
    return find(browser, "#discard").is_displayed()


@pytest.mark.parametrize(
    "kept", ["{", "null", "7", '{"0": 3, "x": [], "99": [], "1": [{"text": 7}], "length": []}']
)
def test_what_is_kept_wrongly_does_no_harm(browser, tmp_path, kept):
    make_page(tmp_path, 30)
    opened(browser, tmp_path)
    before = find(browser, "#list").text
    script = "localStorage.setItem('slyther ' + JSON.parse(recording.textContent).id, arguments[0])"
    browser.execute_script(script, kept)
    opened(browser, tmp_path)
    assert find(browser, "#list").text == before and not discard_shown(browser)
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]


def test_a_browser_that_keeps_nothing_says_so(browser, tmp_path):
    make_page(tmp_path, 30)
    forbid = "Object.defineProperty(window, 'localStorage', {get() { throw new Error('no'); }})"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": forbid})
    opened(browser, tmp_path)
    edit(browser, 0, "new words")
    told = "1 edit, this browser cannot keep them: download the transcript."
    assert find(browser, "#status").text == told
    browser.execute_script("window.left = !dispatchEvent(new Event('beforeunload', {cancelable: true}))")
    assert browser.execute_script("return window.left")
    downloaded(browser, tmp_path, "txt")
    browser.execute_script("window.left = !dispatchEvent(new Event('beforeunload', {cancelable: true}))")
    assert not browser.execute_script("return window.left")


def test_the_sound_within_plays_and_seeks(browser, tmp_path):
    sound = io.BytesIO()
    writer = OpusWriter(sound, 16_000)
    writer.write(np.sin(np.arange(16_000 * 60) / 9).astype(np.float32))
    writer.close()
    sound.seek(0)
    rows = talk(60)
    text = rendered("html", rows, recording=Recording("gone.wav", 60.0, [100] * 1024, sound))
    (tmp_path / "talk.html").write_text(text, encoding="utf-8")
    opened(browser, tmp_path)
    assert abs(browser.execute_script("return audio.duration") - 60) < 0.05
    browser.find_elements(By.CSS_SELECTOR, "li[data-index='9'] .word")[2].click()
    keys(browser, " ")
    start = rows[9]["words"][2]["start"]
    wait(browser, lambda: now(browser) > start + 0.5)
    assert now(browser) < 60


def test_no_words_and_no_sound(browser, tmp_path):
    with TranscriptWriter({"html": tmp_path / "talk.html"}, recording=Recording("-", 3.0)) as writer:
        writer.commit()
    browser.get((tmp_path / "talk.html").as_uri())
    assert "standard input" in find(browser, "#chooser").text
    assert find(browser, "#status").text == "Nothing was said in this recording."
    (tmp_path / "other.html").write_text(rendered("html", talk(9), recording=Recording("gone.wav")))
    browser.get((tmp_path / "other.html").as_uri())
    wait(browser, lambda: "gone.wav is not where it was" in find(browser, "#chooser").text)
    assert not [line for line in browser.get_log("browser") if "Error" in line["message"]]


def test_ten_thousand_words(browser, tmp_path):
    """An hour: neither loading nor scrolling keeps the page busy, counted in CPU time."""
    rows = make_page(tmp_path, 3600)
    assert sum(len(row["words"]) for row in rows) > 9_000
    browser.execute_cdp_cmd("Performance.enable", {"timeDomain": "threadTicks"})

    def busy():
        """CPU seconds of the page's thread so far."""
        metrics = browser.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return next(one["value"] for one in metrics if one["name"] == "TaskDuration")

    opened(browser, tmp_path)
    loaded = busy()
    frames = browser.execute_async_script("""
        const done = arguments[0], end = document.documentElement.scrollHeight;
        let frames = 0, y = 0;
        function step() {
          frames++;
          y += 400; scrollTo(0, y);
          if (y < end) requestAnimationFrame(step); else done(frames);
        }
        requestAnimationFrame(step);
    """)
    frame = (busy() - loaded) / frames
    print(f"\nloaded in {loaded:.2f} s of CPU; {frames} frames of 400 pixels, {1000 * frame:.0f} ms each")
    assert loaded < 2 and frames > 50 and frame < 0.05
