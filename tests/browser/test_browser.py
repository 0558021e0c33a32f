"""The browser of these tests works, and notices what it is there to notice."""


def test_a_page_is_rendered(offline, complaints):
    offline.set_content("<p id=a></p><script>a.textContent = 6 * 7</script>")
    assert offline.inner_text("#a") == "42"
    assert complaints == []


def test_a_request_to_another_host_is_noticed(offline, complaints):
    with offline.expect_event("requestfailed"):
        offline.set_content("<img src='https://example.org/a.png'>")
    assert any("example.org" in complaint for complaint in complaints)


def test_an_error_in_a_script_is_noticed(offline, complaints):
    with offline.expect_event("pageerror"):
        offline.set_content("<script>missing()</script>")
    assert "missing" in " ".join(complaints)
