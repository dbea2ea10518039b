"""What `make check` finds in the public API."""

import public_api

PAGE = """
<main><pre class="rust item-decl"><code>pub struct <a class="struct" href="#">Origin</a>(<span>String</span>);</code></pre>
<div id="implementations-list"><section><h3 class="code-header">impl Origin</h3></section>
<section><h4 class="code-header">pub fn <a>parse</a>(text: &amp;<a>str</a>)
 -&gt; Option&lt;Self&gt;</h4></section></div>
<div id="synthetic-implementations-list"><h3 class="code-header">impl Send for Origin</h3></div>
<div id="blanket-implementations-list"><h3 class="code-header">impl&lt;T&gt; Any for T</h3></div></main>
"""


def test_an_item_is_its_declaration_and_what_is_written_for_it(tmp_path):
    (tmp_path / "transport").mkdir()
    (tmp_path / "all.html").write_text('<a href="index.html">x</a><a href="transport/struct.Origin.html">Origin</a>')
    (tmp_path / "transport" / "struct.Origin.html").write_text(PAGE)
    # Left from an earlier build.
    (tmp_path / "struct.Gone.html").write_text(PAGE)

    assert public_api.api(tmp_path) == [
        "struct transport::Origin",
        "    pub struct Origin(String);",
        "    impl Origin",
        "    pub fn parse(text: &str) -> Option<Self>",
    ]


def test_a_change_and_two_types_of_one_name_are_reported():
    accepted = ["struct Tool", "fn main"]
    now = ["struct Tool", "struct transport::Tool", "fn postgres::main", "fn main"]

    assert list(public_api.differences(accepted, now)) == [
        "  +struct transport::Tool", "  +fn postgres::main", "  two types are named Tool",
    ]
    assert list(public_api.differences(accepted, accepted)) == []
