"""The console's pages: what they show, what they do, and that whatever people typed is escaped."""

from dataclasses import replace
from datetime import timedelta
from html import escape

import pytest

from app.domain.generation import EngineState, EngineStatus, ModelProfile
from app.domain.health import DetectorHealth, DetectorState
from app.domain.models import (
    Account,
    AccountRole,
    Hit,
    MessageState,
    Sampling,
    Suspension,
    TemplateDraft,
    TemplateFile,
    Variable,
    new_id,
    now,
)
from app.domain.verdicts import Action, Case, Decision, Finding, SealedText, Stage
from app.domain.words import LANGUAGES, Language
from app.services.accounts import operator
from prompts import library
from tests.fakes.office import Office, account
from ui.admin.editor import fields_of
from ui.admin.hits import PAGE_SIZE
from ui.admin.overview import shares

EVIL = '<script>alert("1")</script>'
TRANSLATOR = TemplateFile(
    name="translator",
    title={"en": "Translator", "zh": "翻译"},
    description={"en": "Translates."},
    language="en",
    tags=("writing",),
    content=TemplateDraft(
        system="Translate into {{target}}.",
        variables=(Variable(name="target", label={"en": "Into"}, default="English"),),
        sampling=Sampling(temperature=0.3),
        examples=("海纳百川",),
    ),
)


def hit(*, category: str = "test", rule: str = "phrases:test-refuse", account_id: str | None = None) -> Hit:
    return Hit(
        id=new_id(),
        decision_id=new_id(),
        created_at=now(),
        stage=Stage.OUTPUT,
        action=Action.REFUSE,
        category=category,
        rule=rule,
        detector="phrases",
        policy="haina@0123456789ab",
        start=1200,
        end=1225,
        account_id=account_id,
    )


@pytest.fixture
async def office() -> Office:
    office = Office()
    await office.add(office.root)
    await office.prompts.import_files(operator("Haina"), [TRANSLATOR])
    return office


async def add_hits(office: Office, *hits: Hit) -> None:
    async with office.storage.write() as unit:
        await unit.hits.add(*hits)
        await unit.commit()


# Overview


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (
            EngineStatus(state=EngineState.LOADING, progress=0.454, stage="weights"),
            "Loading, 45 % · reading the weights",
        ),
        (EngineStatus(state=EngineState.DOWN, detail=f"refused {EVIL}"), f"refused {escape(EVIL, quote=False)}"),
        (
            EngineStatus(
                state=EngineState.READY,
                profile=ModelProfile(id="m", title="Baichuan2", prompt_format=None, context_length=4096),
            ),
            "4,096 tokens of context",
        ),
    ],
)
async def test_the_overview_tells_the_models_state(office: Office, status: EngineStatus, words: str) -> None:
    office.engine.state = status
    assert words in (await office.show("overview")).replace("&#34;", '"')


async def test_the_overview_shows_the_last_minutes_figures(office: Office) -> None:
    office.stats.first_token(0.42)
    office.queue.running = 3
    page = await office.show("overview")
    assert '<p class="value" data-live="running">3</p>' in page
    assert "0.42<small>s</small>" in page
    assert "None in the last 24 hours." in page


async def test_the_overview_shows_the_parts_of_the_filter_and_says_when_one_fails(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = await office.show("overview")
    assert page.count('class="chip ok"') == len(office.filters.site.health())
    assert "alert" not in page
    guard = DetectorHealth(
        name="qwen",
        kind="qwen3guard",
        state=DetectorState.OPEN,
        failures=5,
        p50_s=0.1234,
        p95_s=0.5,
        reason="timeout",
        lets_pass=True,
    )
    monkeypatch.setattr(office.filters.site, "health", lambda: [guard])
    page = await office.show("overview")
    assert "A part of the content filter fails" in page
    for words in ("qwen3guard", "Not asked for now", "too slow", "texts pass unjudged", "123.40 · 500.00 ms"):
        assert words in page
    monkeypatch.setattr(office.filters.site, "health", lambda: [replace(guard, lets_pass=False)])
    page = await office.show("overview", language="zh")
    assert "内容过滤器目前不放行任何内容" in page
    assert "超时" in page
    assert "内容未经审查放行" not in page


async def test_the_overview_names_who_waits_in_the_order_of_service(office: Office) -> None:
    ann, evil = account("ann"), account(EVIL)
    await office.add(ann, evil)
    assert "Who waits" not in await office.show("overview")
    async with office.queue.enter(ann.id), office.queue.enter(ann.id), office.queue.enter(evil.id):
        page = (await office.show("overview")).partition("Who waits")[2]
    assert page.index(escape(EVIL).replace("&quot;", "&#34;")) < page.index("ann")  # ann holds the slot
    assert EVIL not in page


def test_shares_add_up_to_a_hundred_and_running_answers_are_not_among_them() -> None:
    found = shares({MessageState.COMPLETE: 3, MessageState.FAILED: 1, MessageState.RUNNING: 9})
    assert {share.state: share.percent for share in found if share.count} == {"complete": 75.0, "failed": 25.0}
    assert sum(share.percent for share in shares({})) == 0


# Users


async def test_users_are_found_by_a_part_of_their_name_and_guests_only_when_wanted(office: Office) -> None:
    await office.add(account("ann"), account("annika"), account("bob"), account("guest-ann", AccountRole.GUEST))
    found = await office.show("users", query="ann")
    assert ("annika" in found, ">bob" in found, "guest-ann" in found) == (True, False, False)
    assert "guest-ann" in await office.show("users", query="ann", guests="on")


async def test_a_long_list_is_turned_page_by_page(office: Office) -> None:
    at = now()
    await office.add(*(replace(account(f"user{n:02}"), created_at=at - timedelta(minutes=n)) for n in range(60)))
    first, second = await office.show("users"), await office.show("users", offset="50")
    assert 'href="#users?offset=50"' in first
    assert "Newer" not in first
    assert 'href="#users"' in second
    assert "Older" not in second
    assert "user59" in second


async def test_an_admin_has_no_button_to_suspend_themselves(office: Office) -> None:
    page = await office.show("users")
    assert "root" in page
    assert "ask_suspend" not in page
    reply = await office.ask("users", "suspend", name="root")
    assert reply.is_error


async def test_suspending_says_first_what_it_does_and_can_be_taken_back(office: Office) -> None:
    await office.add(account("ann"))
    asked = await office.ask("users", "ask_suspend", name="ann")
    assert "ann is signed out everywhere at once" in asked.dialog
    done = await office.ask("users", "suspend", name="ann")
    assert (done.said, done.go) == ("ann is suspended.", "users")
    assert (await office.accounts.by_name(office.root, "ann")).is_suspended
    assert "Let ann in again?" in (await office.ask("users", "ask_suspend", name="ann")).dialog
    await office.ask("users", "suspend", name="ann", take_back="on")
    assert not (await office.accounts.by_name(office.root, "ann")).is_suspended


async def test_an_account_is_made_and_a_taken_name_is_said_to_be_taken(office: Office) -> None:
    made = await office.ask("users", "add", name="carol", password="long enough", role="admin")
    assert not made.is_error, made.said
    assert (await office.accounts.by_name(office.root, "carol")).role is AccountRole.ADMIN
    again = await office.ask("users", "add", name="Carol", password="long enough", role="user")
    assert (again.is_error, again.said) == (True, "This name is taken.")


@pytest.mark.parametrize("role", ["", "guest", "owner"])
async def test_no_other_role_can_be_given(office: Office, role: str) -> None:
    assert (await office.ask("users", "add", name="carol", password="long enough", role=role)).is_error


# API keys


async def test_a_keys_secret_is_shown_once_and_never_in_the_list(office: Office) -> None:
    made = await office.ask("keys", "make", name="Nightly", account="root")
    secret = made.dialog.split('id="secret">')[1].split("<")[0]
    assert (await office.accounts.of_key(secret)).name == "root"
    page = await office.show("keys")
    assert "Nightly" in page
    assert secret not in page
    assert secret[:9] in page


async def test_revoking_says_first_what_it_does_and_the_key_is_then_useless(office: Office) -> None:
    key, _ = await office.accounts.make_key(office.root, office.root, name="Nightly")
    assert "cannot be undone" in (await office.ask("keys", "ask_revoke", id=key.id)).dialog
    await office.ask("keys", "revoke", id=key.id)
    page = await office.show("keys")
    assert "Revoked" in page
    assert "ask_revoke" not in page


async def test_a_key_for_nobody_and_an_unknown_key_are_refused(office: Office) -> None:
    assert (await office.ask("keys", "make", name="x", account="nobody")).is_error
    assert (
        await office.ask("keys", "ask_revoke", id="unknown")
    ).said == "There is no such API key, or it is not yours."


# Hits


async def test_without_hits_the_page_tells_how_to_try_the_filter(office: Office) -> None:
    page = await office.show("hits")
    assert "haina-blocked-test-phrase" in page
    assert "海纳测试禁语" in page


async def test_hits_are_counted_by_rule_and_listed_with_place_and_account(office: Office) -> None:
    await add_hits(office, hit(account_id=office.root.id), hit(account_id="gone"), hit(rule="patterns:cn-id"))
    page = await office.show("hits")
    assert "characters 1,200–1,225" in page
    assert ">root<" in page
    assert ">gone<" in page
    assert '<span class="count">2</span>' in page


async def test_hits_can_be_restricted_to_a_rule(office: Office) -> None:
    await add_hits(office, hit(), hit(rule="patterns:cn-id", account_id="only-this"))
    page = await office.show("hits", rule="patterns:cn-id")
    assert page.count('<th scope="row">') == 1
    assert "only-this" in page
    assert "No hit matches." in await office.show("hits", category="hate")


async def test_a_restriction_stays_while_one_turns_pages(office: Office) -> None:
    await add_hits(office, *(hit() for _ in range(PAGE_SIZE + 1)))
    page = await office.show("hits", category="test")
    assert f'href="#hits?category=test&amp;offset={PAGE_SIZE}"' in page


# Prompts


def edit(**changed: str) -> dict[str, list[str]]:
    """Return the editor's form over the first version, with something changed."""
    form = fields_of(TRANSLATOR.content) | {"name": ["translator"], "number": ["1"], "based_on": ["1"]}
    return form | {name: [value] for name, value in changed.items()}


async def test_the_list_names_templates_in_the_readers_language(office: Office) -> None:
    assert "翻译" in await office.show("prompts", language="zh")
    assert ">Translator<" in await office.show("prompts")


async def test_an_edit_is_reviewed_and_saved_as_a_new_live_version(office: Office) -> None:
    edited = edit(system="Translate well into {{target}}.")
    review = await office.ask("prompt", "review", form=edited)
    assert 'class="line added"' in review.dialog
    assert "Translate well into {{target}}." in review.dialog
    saved = await office.ask("prompt", "save", form=edited, message="Better", is_live="on")
    assert (saved.said, saved.go) == ("Version 2 is saved and live.", "prompt?name=translator")
    assert (await office.prompts.export(office.root, "translator")).content.system == "Translate well into {{target}}."


async def test_a_version_can_be_saved_without_going_live_and_made_live_later(office: Office) -> None:
    edited = edit(temperature="0.9")
    saved = await office.ask("prompt", "save", form=edited, message="Warmer")
    assert saved.go == "prompt?name=translator&number=2"
    assert (await office.prompts.export(office.root, "translator")).content.sampling.temperature == 0.3
    asked = await office.ask("prompt", "ask_live", name="translator", number="2")
    assert "New conversations get version 2 in place of version 1." in asked.dialog
    await office.ask("prompt", "set_live", name="translator", number="2")
    assert (await office.prompts.export(office.root, "translator")).content.sampling.temperature == 0.9


async def test_a_save_over_somebody_elses_version_is_refused_in_words(office: Office) -> None:
    first = edit(system="One {{target}}.")
    await office.ask("prompt", "save", form=first, message="One", is_live="on")
    second = edit(system="Two {{target}}.")
    reply = await office.ask("prompt", "save", form=second, message="Two", is_live="on")
    assert reply.is_error
    assert reply.said.startswith("Somebody saved a newer version")


async def test_an_edit_that_changes_nothing_or_cannot_be_is_refused(office: Office) -> None:
    same = edit()
    assert "Nothing was changed" in (await office.ask("prompt", "review", form=same)).said
    broken = edit(system="Into {{nowhere}}")
    assert (await office.ask("prompt", "review", form=broken)).is_error


async def test_two_versions_are_compared_the_older_first(office: Office) -> None:
    edited = edit(system="New {{target}}.")
    await office.ask("prompt", "save", form=edited, message="New", is_live="on")
    dialog = (await office.ask("prompt", "compare", name="translator", number="2", other="1")).dialog
    assert "From version 1 to 2" in dialog
    assert dialog.index("Translate into") < dialog.index("New {{target}}")


async def test_an_exported_file_can_be_imported_elsewhere_after_a_look_at_it(office: Office) -> None:
    exported = await office.ask("prompt", "export", name="translator")
    assert exported.file_name == "translator.toml"
    assert library.parse(exported.file_text, name="translator") == TRANSLATOR
    elsewhere = Office()
    look = await elsewhere.ask("prompts", "review_import", file=exported.file_text, file_name="translator.toml")
    assert "translator is not here yet" in look.dialog
    done = await elsewhere.ask("prompts", "import", text=exported.file_text, name="translator")
    assert done.go == "prompt?name=translator"
    assert await elsewhere.prompts.export(elsewhere.root, "translator") == TRANSLATOR


async def test_importing_over_a_template_says_which_version_it_becomes(office: Office) -> None:
    text = library.write(TRANSLATOR)
    same = await office.ask("prompts", "review_import", text=text, name="translator")
    assert "There is nothing to import." in same.dialog
    other = text.replace("Translate into", "Render into")
    look = await office.ask("prompts", "review_import", text=other, name="translator")
    assert "This becomes version 2" in look.dialog
    renamed = await office.ask("prompts", "review_import", text=text.replace("Translator", "Turner"), name="translator")
    assert "version 1 stays in use" in renamed.dialog
    assert "Turner" in renamed.dialog
    broken = await office.ask("prompts", "review_import", text="x = [", name="translator")
    assert (broken.is_error, broken.dialog) == (True, "")


async def test_an_unknown_template_or_version_is_said_to_be_unknown(office: Office) -> None:
    for form in ({"name": ["nothing"]}, {"name": ["translator"], "number": ["9"]}):
        assert (await office.ask("prompt", form=form)).said == "There is no such prompt template, or it is not yours."


# Escaping


@pytest.mark.parametrize("language", LANGUAGES)
async def test_whatever_people_typed_is_escaped_everywhere(language: Language) -> None:
    office = Office(root=account(EVIL, AccountRole.ADMIN))
    office.engine.state = EngineStatus(
        state=EngineState.LOADING,
        stage=EVIL,
        detail=EVIL,
        profile=ModelProfile(id=EVIL, title=EVIL, prompt_format=None, context_length=1, dtype=EVIL, revision=EVIL),
    )
    await office.add(office.root, account(f"{EVIL}2"))
    key, _ = await office.accounts.make_key(office.root, office.root, name=EVIL)
    await add_hits(office, replace(hit(category=EVIL, rule=EVIL, account_id=EVIL), detector=EVIL, policy=EVIL))
    content = TemplateDraft(
        system=f"</textarea>{EVIL} {{{{x}}}}",
        variables=(Variable(name="x", label={"en": EVIL, "zh": EVIL}, default=EVIL),),
        examples=(EVIL,),
        sampling=Sampling(stop=(EVIL,)),
    )
    words = {"en": EVIL, "zh": EVIL}
    file = TemplateFile(name="evil", title=words, description=words, language="en", tags=(EVIL,), content=content)
    await office.prompts.import_files(operator(EVIL), [file])
    edited = fields_of(replace(content, examples=(EVIL, f"{EVIL}2")))
    calls: list[tuple[str, str, dict[str, list[str]]]] = [
        ("frame", "show", {}),
        ("overview", "show", {}),
        ("users", "show", {"query": [EVIL]}),
        ("users", "show", {"query": [f"nobody {EVIL}"]}),
        ("users", "ask_suspend", {"name": [f"{EVIL}2"]}),
        ("keys", "show", {}),
        ("keys", "ask_make", {}),
        ("keys", "make", {"name": [EVIL], "account": [EVIL]}),
        ("keys", "ask_revoke", {"id": [key.id]}),
        ("hits", "show", {"category": [EVIL], "rule": [EVIL]}),
        ("prompts", "show", {}),
        ("prompts", "review_import", {"name": ["other"], "text": [library.write(file)]}),
        ("prompt", "show", {"name": ["evil"]}),
        ("prompt", "review", {"name": ["evil"], "number": ["1"], "based_on": ["1"], **edited}),
    ]
    for page, action, form in calls:
        reply = await office.ask(page, action, language=language, form=form)
        assert not reply.is_error, (page, action, reply.said)
        markup = reply.html + reply.dialog
        assert "<script" not in markup, (page, action)
        assert "</textarea>&lt;" not in markup, (page, action)
        assert "&lt;script&gt;" in markup, (page, action)


TULIPS = """
[[rules]]
category = "flowers"
stages = ["input"]
action = "refuse"

[[lists]]
name = "flowers"
category = "flowers"
language = "en"
phrases = ["red tulips"]
"""


async def test_a_policy_layer_is_run_dry_reviewed_published_compared_and_put_back() -> None:
    office = Office()
    assert "No layer for everybody yet" in await office.show("policies")
    assert "还没有对所有人生效的层" in await office.show("policies", language="zh")
    assert "name=&#34;text&#34;" not in await office.show("policy", layer="site")
    review = await office.ask("policy", "review", layer="site", text=TULIPS)
    assert "red tulips" in review.dialog
    assert "no messages of the last 30 days" in review.dialog
    assert office.filters.site.policy.startswith("general@")
    saved = await office.ask("policy", "save", layer="site", text=TULIPS, message="flowers", based_on="0")
    assert saved.go == "policy?layer=site"
    assert "Version 1 is in force" in saved.said
    assert office.filters.site.policy.startswith("site@")
    clash = await office.ask("policy", "save", layer="site", text="", message="gone", based_on="0")
    assert clash.is_error
    await office.ask("policy", "save", layer="site", text="", message="gone", based_on="1")
    page = await office.show("policy", layer="site")
    assert "flowers" in page
    assert "gone" in page
    assert "red tulips" in (await office.ask("policy", "compare", layer="site", number="2", other="1")).dialog
    assert "Put version 1 in force?" in (await office.ask("policy", "ask_live", layer="site", number="1")).dialog
    assert (await office.ask("policy", "set_live", layer="site", number="1")).go == "policy?layer=site"
    assert "red tulips" in await office.show("policy", layer="site")
    assert "site" in await office.show("policies")


async def test_a_faulty_layer_is_told_with_its_line_and_not_published() -> None:
    office = Office()
    for action in ("review", "save"):
        reply = await office.ask("policy", action, layer="site", text='[[rules]]\ncolour = "x"\n', message="x")
        assert reply.is_error
        assert "site:2: rules.1.colour: there is no such key" in reply.said
    for wrong in ("../x", "", "A"):
        assert (await office.ask("policies", "add", layer=wrong)).is_error
    assert (await office.ask("policy", "show", layer="site", number="7")).is_error
    assert (await office.ask("policies", "add", layer="demo")).go == "policy?layer=demo"


async def test_accounts_and_keys_are_given_layers() -> None:
    office = Office()
    ann = account("ann")
    await office.add(ann)
    key, _ = await office.accounts.make_key(office.root, ann, name="k")
    await office.ask("policy", "save", layer="demo", text=TULIPS, message="flowers", based_on="0")
    assert "There are: demo" in (await office.ask("users", "ask_layers", name="ann")).dialog
    assert (await office.ask("users", "give_layers", id="ann", layers="demo")).go == "users"
    assert "demo" in await office.show("users")
    assert (await office.ask("keys", "ask_layers", id=key.id)).dialog
    assert (await office.ask("keys", "give_layers", id=key.id, layers="demo")).go == "keys"
    assert (await office.ask("users", "give_layers", id="ann", layers="nothing")).is_error
    assert (await office.ask("keys", "ask_layers", id="unknown")).is_error


# Reviews


REFUSED = SealedText("please say haina-blocked-test-phrase to me")
REFUSAL = Decision(
    id="decision-0123456789",
    stage=Stage.INPUT,
    action=Action.REFUSE,
    policy="haina@0123456789ab",
    findings=(
        Finding(category="test", rule="phrases:test", detector="phrases", action=Action.REFUSE, start=11, end=36),
    ),
)


async def refuse(office: Office, *, decision: Decision = REFUSAL, text: SealedText = REFUSED) -> Account:
    """Record a refusal of ann's; return her."""
    ann = account("ann")
    await office.add(ann)
    async with office.storage.write() as unit:
        await office.recorder.write(unit, office.recorder.note(Case(decision, text), account_id=ann.id))
        await unit.commit()
    return ann


async def test_an_empty_queue_says_how_something_comes_into_it(office: Office) -> None:
    assert "Nothing waits for a review." in await office.show("reviews")
    assert "None in this state." in await office.show("reviews", state="upheld")


async def test_the_queue_lists_appeals_and_what_was_handed_over_by_state(office: Office) -> None:
    ann = await refuse(office)
    async with office.storage.write() as unit:
        handed_over = replace(REFUSAL, id="handed-over-1", action=Action.HANDOFF)
        await office.recorder.write(unit, office.recorder.note(Case(handed_over, REFUSED), account_id=ann.id))
        await unit.commit()
    await office.appeals.appeal(ann, REFUSAL.id, comment=f"no harm {EVIL}")
    page = await office.show("reviews")
    assert page.count("<tr>") == 3
    assert page.index("decision") < page.index("handed-o")
    assert "Review asked for" in page
    assert "Handed over by the filter" in page
    assert EVIL not in page
    assert "no harm" in page
    assert (await office.show("reviews", state="upheld")).count("<tr>") == 0
    await office.ask("review", "uphold", decision=REFUSAL.id)
    assert (await office.show("reviews")).count("<tr>") == 2
    assert "Upheld" in await office.show("reviews", state="every")


async def test_a_review_shows_all_but_the_text(office: Office) -> None:
    ann = await refuse(office)
    await office.appeals.appeal(ann, REFUSAL.id, comment="It was a test.")
    page = await office.show("review", decision=REFUSAL.id)
    for shown in ("It was a test.", "phrases:test", "characters 11–36", "haina@0123456789ab", "ann", "42 characters"):
        assert shown in page
    assert "haina-blocked" not in page
    assert "Open the text" in page


async def test_a_text_is_shown_for_a_reason_with_what_was_found_marked_and_a_line_to_copy(office: Office) -> None:
    await refuse(office)
    asked = await office.ask("review", "ask_text", decision=REFUSAL.id)
    assert "written into the audit trail" in asked.dialog
    assert (await office.ask("review", "text", decision=REFUSAL.id)).is_error
    reply = await office.ask("review", "text", decision=REFUSAL.id, reason="an appeal")
    assert "please say <mark>haina-blocked-test-phrase</mark> to me" in reply.dialog
    assert "allow = [&#34;say haina-blocked-test-phrase to&#34;]" in reply.dialog
    page = await office.show("review", decision=REFUSAL.id)
    assert "opened a kept text" in page
    assert "an appeal" in page
    assert "opened a kept text" in await office.show("audit", subject=REFUSAL.id)


async def test_markup_in_a_kept_text_is_text(office: Office) -> None:
    await refuse(office, text=SealedText(f"{EVIL} and what"))
    reply = await office.ask("review", "text", decision=REFUSAL.id, reason="an appeal")
    assert EVIL not in reply.dialog
    assert "&lt;script" in reply.dialog


async def test_overturning_is_told_and_cannot_be_done_twice(office: Office) -> None:
    ann = await refuse(office)
    await office.appeals.appeal(ann, REFUSAL.id)
    reply = await office.ask("review", "overturn", decision=REFUSAL.id, note=f"sorry {EVIL}")
    assert (reply.is_error, reply.go) == (False, f"review?decision={REFUSAL.id}")
    page = await office.show("review", decision=REFUSAL.id)
    assert "Overturned by root" in page
    assert "sorry" in page
    assert EVIL not in page
    assert 'name="note"' not in page
    again = await office.ask("review", "uphold", decision=REFUSAL.id)
    assert again.is_error
    assert "Somebody else has decided" in again.said


async def test_a_decision_that_nobody_appealed_can_be_looked_at_from_its_hit(office: Office) -> None:
    await refuse(office)
    assert f"#review?decision={REFUSAL.id}" in await office.show("hits")
    page = await office.show("review", decision=REFUSAL.id)
    assert "Nobody asked for a review" in page
    assert "Overturn" not in page
    assert (await office.ask("review", decision="unknown")).is_error


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("page", ["reviews", "audit"])
async def test_the_queue_and_the_trail_are_for_admins(office: Office, page: str, language: Language) -> None:
    assert not (await office.ask(page, language=language)).is_error
    assert (await office.ask(page, who=account("ann"), language=language)).is_error


async def test_the_trail_lists_who_did_what(office: Office) -> None:
    assert "Nothing was done yet." in await office.show("audit")
    await office.add(account("bob"))
    await office.ask("users", "suspend", name="bob")
    page = await office.show("audit")
    assert "suspended an account" in page
    assert "bob" in page
    assert "root" in page
    assert "Only: bob" in await office.show("audit", subject="bob")


# Pauses


async def test_who_is_paused_is_marked_and_let_in_again(office: Office) -> None:
    ann = account("ann")
    await office.add(ann)
    suspension = Suspension(id="s", account_id=ann.id, began_at=now(), ends_at=now() + timedelta(hours=5))
    async with office.storage.write() as unit:
        await unit.strikes.suspend(suspension)
        await unit.commit()
    assert "Paused until" in await office.show("users")
    reply = await office.ask("users", "lift", name="ann")
    assert (reply.is_error, reply.said) == (False, "ann can ask again.")
    assert "Paused until" not in await office.show("users")
    assert (await office.ask("users", "lift", name="ann")).is_error
