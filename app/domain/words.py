"""Words for people, in English and Chinese: what happened, what to do. Errors become sentences here only."""

from collections.abc import Mapping
from typing import Literal

from app.domain.errors import ChatError, ContentBlocked
from app.domain.models import Message, MessageState

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = ("en", "zh")
LANGUAGE_COOKIE = "haina_lang"
"""Set by the pages' switch."""


def preferred_language(chosen: str | None, accepted: str) -> Language:
    """Return the language of the switch's cookie, else the one that the browser's `Accept-Language` begins with."""
    language = chosen if chosen in LANGUAGES else accepted.strip().lower()[:2]
    return "zh" if language == "zh" else "en"


_ERRORS: Mapping[str, Mapping[Language, str]] = {
    "internal_error": {
        "en": "The server met a fault of its own and wrote it to its log. Try again.",
        "zh": "服务器内部出错，已记入日志，请重试。",
    },
    "invalid_request": {"en": "This request is not valid: {detail}.", "zh": "请求无效：{detail}。"},
    "invalid_request.empty": {"en": "The message is empty.", "zh": "消息是空的。"},
    "invalid_request.title_empty": {"en": "The title is empty.", "zh": "标题是空的。"},
    "invalid_request.title_long": {"en": "A title has at most {limit} characters.", "zh": "标题最多 {limit} 个字符。"},
    "invalid_request.account_name": {
        "en": "A name has 2 to 64 letters, digits or . _ - @ and does not begin with “guest-”.",
        "zh": "用户名为 2 到 64 个字符，可用字母、数字和 . _ - @，且不能以“guest-”开头。",
    },
    "invalid_request.password_short": {
        "en": "A password has at least {limit} characters.",
        "zh": "密码至少 {limit} 个字符。",
    },
    "invalid_request.password_long": {
        "en": "A password has at most {limit:,} characters.",
        "zh": "密码最多 {limit:,} 个字符。",
    },
    "invalid_request.role": {
        "en": "An account's role is user or admin.",
        "zh": "账号的角色只能是普通用户或管理员。",
    },
    "invalid_request.version_message": {
        "en": "Say in 1 to {limit} characters what changed and why.",
        "zh": "请用 1 到 {limit} 个字符说明改了什么、为什么改。",
    },
    "invalid_request.comment_long": {
        "en": "A comment has at most {limit:,} characters.",
        "zh": "说明最多 {limit:,} 个字符。",
    },
    "invalid_request.note_long": {
        "en": "A note has at most {limit:,} characters.",
        "zh": "备注最多 {limit:,} 个字符。",
    },
    "invalid_request.reason": {
        "en": "Say in 1 to {limit} characters why you have to see the text.",
        "zh": "请用 1 到 {limit} 个字符说明为什么要查看原文。",
    },
    "invalid_request.unchanged": {"en": "Nothing was changed.", "zh": "没有任何改动。"},
    "invalid_request.number_whole": {"en": "“{param}” has to be a whole number.", "zh": "“{param}”必须是整数。"},
    "invalid_request.number": {"en": "“{param}” has to be a number.", "zh": "“{param}”必须是数字。"},
    "invalid_request.layer": {
        "en": "A layer's name has lower-case letters, digits and hyphens, at most 64.",
        "zh": "策略层的名称只能用小写字母、数字和连字符，最多 64 个字符。",
    },
    "invalid_request.call": {
        "en": "The page sent something that the server does not understand. Reload it and try again.",
        "zh": "页面发送的内容无法识别，请刷新后重试。",
    },
    "invalid_request.characters": {
        "en": "The text holds characters that cannot be kept.",
        "zh": "文字中含有无法保存的字符。",
    },
    "invalid_request.template": {"en": "This template is not valid: {detail}.", "zh": "模板的“{key}”有误。"},
    **{
        f"invalid_request.template_{kind}": {
            "en": "This template is not valid: {detail}.",
            "zh": f"模板有误：{words}。",
        }
        for kind, words in {
            "missing": "“{key}”不能为空",
            "string_too_short": "“{key}”不能为空",
            "string_too_long": "“{key}”太长了",
            "too_long": "“{key}”的条目太多",
            "characters": "“{key}”含有无法显示的字符",
            "line": "“{key}”只能是一行，首尾不能有空格",
            "twice": "“{key}”里有重复的条目",
            "greater_than": "“{key}”超出了允许的范围",
            "greater_than_equal": "“{key}”超出了允许的范围",
            "less_than": "“{key}”超出了允许的范围",
            "less_than_equal": "“{key}”超出了允许的范围",
            "finite_number": "“{key}”必须是有限的数字",
            "int_type": "“{key}”必须是整数",
            "float_type": "“{key}”必须是数字",
            "string_pattern_mismatch": "变量名只能用小写字母、数字和下划线，并以字母开头（“{key}”）",
            "choices": "“{key}”：只有选项类变量有选项，而且必须有",
            "default_choice": "“{key}”的默认值不在选项中",
            "default_number": "“{key}”的默认值不是数字",
            "default_lines": "“{key}”的默认值只能是一行",
            "blank": "系统提示词里的 {{{{ 后面必须是变量名和 }}}}",
            "declared_twice": "变量“{name}”声明了不止一次",
            "unused": "变量“{name}”已声明，但系统提示词没有用到",
            "undeclared": "系统提示词用了变量“{name}”，但没有声明",
        }.items()
    },
    "invalid_request.host": {
        "en": "This server does not answer to the name in the address. On this machine, open it as localhost.",
        "zh": "服务器不接受地址中的这个主机名。在本机请用 localhost 打开。",
    },
    "invalid_request.body": {
        "en": "The request cannot be read: its body has to be a JSON object in UTF-8, not nested too deeply.",
        "zh": "无法读取请求：正文必须是 UTF-8 编码、嵌套不过深的 JSON 对象。",
    },
    "invalid_request.field_missing": {"en": "“{param}” is missing.", "zh": "缺少“{param}”。"},
    "invalid_request.field_unknown": {"en": "There is no field named “{param}”.", "zh": "没有名为“{param}”的字段。"},
    "invalid_request.field_long": {"en": "“{param}” is too long.", "zh": "“{param}”太长了。"},
    "invalid_request.field_characters": {
        "en": "“{param}” holds characters that cannot be kept.",
        "zh": "“{param}”含有无法保存的字符。",
    },
    "invalid_request.field_range": {
        "en": "“{param}” is out of range.",
        "zh": "“{param}”超出了允许的范围。",
    },
    "invalid_request.field_type": {
        "en": "“{param}” is of the wrong type.",
        "zh": "“{param}”的类型不对。",
    },
    "invalid_request.field_wrong": {"en": "“{param}” is not valid.", "zh": "“{param}”无效。"},
    "invalid_request.variable_missing": {"en": "Fill in “{label}” first.", "zh": "请先填写“{label}”。"},
    "invalid_request.variable_choice": {
        "en": "“{label}” has to be one of the choices.",
        "zh": "“{label}”只能从选项中选择。",
    },
    "invalid_request.variable_number": {"en": "“{label}” has to be a number.", "zh": "“{label}”必须是数字。"},
    "invalid_request.variable_long": {"en": "“{label}” is too long.", "zh": "“{label}”太长了。"},
    "invalid_request.variable_control": {
        "en": "“{label}” holds characters that cannot be shown.",
        "zh": "“{label}”含有无法显示的字符。",
    },
    "invalid_request.variable_unknown": {
        "en": "This template has no blank of that name. Reload the page and choose it again.",
        "zh": "模板里没有这个变量，请刷新页面后重新选择。",
    },
    "invalid_policy": {"en": "This policy is not valid: {faults}", "zh": "策略有误：{faults}"},
    "invalid_request.export_large": {
        "en": "The conversation is too large for one file: at most {limit:,} characters are exported.",
        "zh": "对话太大，一个文件最多导出 {limit:,} 个字符。",
    },
    "text_too_long": {
        "en": "The message has {length:,} characters; at most {limit:,} are taken. Shorten it or split it.",
        "zh": "消息有 {length:,} 个字符，最多 {limit:,} 个。请缩短或分成几条。",
    },
    "context_length_exceeded": {
        "en": "The message needs {length:,} tokens and the model reads {limit:,} at once. Shorten it or split it.",
        "zh": "消息需要 {length:,} 个 token，模型一次只能读 {limit:,} 个。请缩短或分成几条。",
    },
    "request_too_large": {
        "en": "The request is too large: at most {limit_mib} MiB are taken.",
        "zh": "请求太大，最多 {limit_mib} MiB。",
    },
    "method_not_allowed": {
        "en": "This address does not take this method; it takes {allow}.",
        "zh": "这个地址不支持该请求方法，可用：{allow}。",
    },
    "content_filter": {
        "en": "The content filter stopped this ({category}).",
        "zh": "内容过滤器拦下了这段内容（{category}）。",
    },
    "content_filter.comment": {
        "en": "The content filter stopped your comment ({category}). Say it without quoting what was refused.",
        "zh": "内容过滤器拦下了你的说明（{category}）。请不要引用被拒绝的内容。",
    },
    "content_filter.note": {
        "en": "The content filter stopped this note ({category}). Say it without quoting what was refused.",
        "zh": "内容过滤器拦下了这条备注（{category}）。请不要引用被拒绝的内容。",
    },
    "access_denied.forbidden": {"en": "This is not open to your account.", "zh": "你的账号不能使用这项功能。"},
    "access_denied.sign_in": {"en": "Sign in first.", "zh": "请先登录。"},
    "access_denied.wrong_password": {"en": "Name or password is wrong.", "zh": "用户名或密码不对。"},
    "access_denied.locked_out": {
        "en": "Too many wrong passwords. Try again in {minutes} min.",
        "zh": "密码错误次数过多，请 {minutes} 分钟后再试。",
    },
    "access_denied.shares": {
        "en": "Sharing by link is switched off on this server.",
        "zh": "本服务器未开放链接分享。",
    },
    "access_denied.suspended": {
        "en": "This account is suspended. Ask the administrator.",
        "zh": "账号已被停用，请联系管理员。",
    },
    "access_denied.setup": {
        "en": "This setup link is not valid. The current one is printed where the server was started.",
        "zh": "这个设置链接无效。有效的链接显示在启动服务器的终端里。",
    },
    "access_denied.origin": {
        "en": "The request came from another site and was refused.",
        "zh": "请求来自其他网站，已拒绝。",
    },
    "suspended": {
        "en": "Too many of your questions were refused, so you cannot ask until {until} UTC ({span} from now). "
        "You can still read, and ask for a review of what was refused.",
        "zh": "你有多个问题被拒绝，{until}（UTC，{span}后）之前不能提问。仍可查看对话，并可对被拒绝的内容申请复核。",
    },
    "invalid_api_key": {
        "en": "The API key is missing, unknown or revoked.",
        "zh": "API 密钥缺失、无效或已被撤销。",
    },
    "not_found": {"en": "There is no such {kind}, or it is not yours.", "zh": "没有这个{kind}，或者它不属于你。"},
    "not_found.policy": {
        "en": "There is no such policy layer, or no such version of it.",
        "zh": "没有这个策略层或版本。",
    },
    "not_found.page": {"en": "There is no such page.", "zh": "没有这个页面。"},
    "model_not_found": {
        "en": "There is no model named {model}. /v1/models lists what may be asked for.",
        "zh": "没有名为 {model} 的模型。可用的模型见 /v1/models。",
    },
    "conflict": {
        "en": "This was changed elsewhere in the meantime. Reload and try again.",
        "zh": "内容已在别处更改，请刷新后重试。",
    },
    "conflict.running": {
        "en": "An answer is still being written in this conversation. Wait for it or stop it.",
        "zh": "这个对话里还有回答正在生成。请等待完成或先停止。",
    },
    "conflict.self": {"en": "You cannot suspend yourself.", "zh": "不能停用自己的账号。"},
    "conflict.refused": {
        "en": "The content filter stopped this, so it cannot be gone on with. Ask in other words.",
        "zh": "这段内容已被过滤器拦下，无法继续。请换一种说法提问。",
    },
    "conflict.appealed": {
        "en": "A review of this was asked for already; there is one for each decision.",
        "zh": "已经申请过复核，每个决定只能申请一次。",
    },
    "conflict.decided": {
        "en": "Somebody else has decided this in the meantime. Reload and look at it.",
        "zh": "已有其他人作出决定，请刷新后查看。",
    },
    "conflict.not_judged": {
        "en": "The filter was out of order then and judged nothing. Ask again instead.",
        "zh": "当时过滤器出了故障，并未作出判断。请重新提问。",
    },
    "conflict.not_refused": {
        "en": "Nothing was refused here, so there is nothing to review.",
        "zh": "这里没有内容被拒绝，无需复核。",
    },
    "conflict.review": {
        "en": "This is in the review queue already.",
        "zh": "它已在复核队列中。",
    },
    "conflict.exporting": {
        "en": "Another export of yours is still being made. Wait for it.",
        "zh": "你的另一个导出仍在进行，请等它完成。",
    },
    "conflict.shares": {
        "en": "You have {limit} links, which is the most. Revoke one first.",
        "zh": "分享链接最多 {limit} 个，请先撤销一个。",
    },
    "conflict.continue": {"en": "This answer is complete already.", "zh": "这个回答已经完整。"},
    "conflict.name": {"en": "This name is taken.", "zh": "这个名称已被占用。"},
    "conflict.version": {
        "en": "Somebody saved a newer version of this. Reload and look at it first.",
        "zh": "有人保存了更新的版本，请刷新后查看。",
    },
    "rate_limit_exceeded": {
        "en": "The model is answering others and the queue is full. Try again in {retry_after_s:.0f} s.",
        "zh": "模型正忙，队列已满。请 {retry_after_s:.0f} 秒后再试。",
    },
    "rate_limit_exceeded.appeals": {
        "en": "{limit} of your reviews are still waiting. Ask for more when some of them are decided.",
        "zh": "你有 {limit} 个复核申请尚在等待，处理之后才能继续申请。",
    },
    "rate_limit_exceeded.pages": {
        "en": "Too many pages were opened in a short time. Try again in {retry_after_s:.0f} s.",
        "zh": "短时间内打开的页面太多，请 {retry_after_s:.0f} 秒后再试。",
    },
    "engine_unavailable": {
        "en": "The model is not reachable. Try again in a moment.",
        "zh": "暂时连不上模型，请稍后重试。",
    },
    "engine_starting": {
        "en": "The model is still loading ({percent} %). Try again in a moment.",
        "zh": "模型仍在加载（{percent} %），请稍后重试。",
    },
    "engine_died": {
        "en": "The model's process ended in the middle of the answer and is being restarted.",
        "zh": "模型进程在回答途中退出，正在重新启动。",
    },
    "engine_refused": {
        "en": "The engine refused the request (status {engine_status}). The administrator finds more in the log.",
        "zh": "推理引擎拒绝了请求（状态 {engine_status}）。详情见服务器日志。",
    },
    "generation_timeout": {
        "en": "The model gave no token for {after_s:.0f} s, so the answer was ended.",
        "zh": "模型 {after_s:.0f} 秒没有输出，回答已中止。",
    },
    "out_of_memory": {
        "en": "The model ran out of memory on this question. Shorten it, or start a new chat.",
        "zh": "这个问题让模型内存不足。请缩短内容或新建对话。",
    },
    "evidence_sealed": {
        "en": "The text behind this decision cannot be opened.",
        "zh": "无法打开这个决定的原文。",
    },
    "evidence_sealed.key_missing": {
        "en": "The kept text cannot be opened: this server has no evidence key. Put the file evidence_key of the "
        "server that kept it into the data folder, and restart.",
        "zh": "无法打开留存的原文：本服务器没有证据密钥。请把原服务器的 evidence_key 文件放回数据目录并重启。",
    },
    "evidence_sealed.key_other": {
        "en": "The kept text cannot be opened: it was closed with another key ({key_id}), as after restoring a backup "
        "without its key. Put back the evidence_key of that time, and restart.",
        "zh": "无法打开留存的原文：它是用另一把密钥（{key_id}）加密的，可能是恢复备份时没有带上密钥。"
        "请放回当时的 evidence_key 文件并重启。",
    },
    "evidence_sealed.damaged": {
        "en": "The kept text is damaged and cannot be opened.",
        "zh": "留存的原文已损坏，无法打开。",
    },
    "server_stopping": {
        "en": "The server is being stopped or restarted. Try again in a moment.",
        "zh": "服务器正在停止或重启，请稍后重试。",
    },
    "safety_unavailable": {
        "en": "The content filter cannot work just now, so nothing is let through. Try again in a moment.",
        "zh": "内容过滤器暂时无法工作，因此不放行任何内容。请稍后重试。",
    },
    "storage_failure": {
        "en": "The database did not answer. Try again in a moment.",
        "zh": "数据库没有响应，请稍后重试。",
    },
    "storage_busy": {
        "en": "The database is busy. Try again in a moment.",
        "zh": "数据库正忙，请稍后重试。",
    },
    "storage_full": {
        "en": "The server's disk is full: nothing can be saved until the administrator makes room.",
        "zh": "服务器磁盘已满，管理员腾出空间之前无法保存。",
    },
    "storage_read_only": {
        "en": "The database cannot be written: nothing can be saved until the administrator has seen to it.",
        "zh": "数据库不可写，管理员处理之前无法保存。",
    },
    "storage_owned": {
        "en": "Another Haina is using this database. Stop it first, or choose another data folder.",
        "zh": "另一个海纳正在使用这个数据库。请先停止它，或换一个数据目录。",
    },
    "schema_outdated": {
        "en": "The database has schema {found}, this program needs {expected}. Run: haina db upgrade",
        "zh": "数据库结构为 {found}，本程序需要 {expected}。请运行：haina db upgrade",
    },
    "schema_outdated.newer": {
        "en": "The database was made by a newer Haina: it has schema {found}, this program knows {expected}. "
        "Upgrade the program.",
        "zh": "数据库由更新版本的海纳创建：结构为 {found}，本程序只认识 {expected}。请升级程序。",
    },
    "storage_corrupt": {
        "en": "The database file is damaged. Restore a backup: haina db restore FILE",
        "zh": "数据库文件已损坏，请恢复备份：haina db restore FILE",
    },
    "storage_corrupt.backup": {
        "en": "This file is damaged, or no database at all. Nothing was changed; choose another backup.",
        "zh": "这个文件已损坏，或者根本不是数据库。没有改动任何内容，请换一个备份。",
    },
}

_CATEGORIES: Mapping[str, Mapping[Language, str]] = {
    "test": {"en": "test phrase", "zh": "测试短语"},
    "violence": {"en": "violence", "zh": "暴力"},
    "weapons": {"en": "weapons", "zh": "武器"},
    "self_harm": {"en": "self-harm", "zh": "自伤"},
    "sexual_minors": {"en": "sexual content with minors", "zh": "涉未成年人色情"},
    "drugs": {"en": "drugs", "zh": "毒品"},
    "fraud": {"en": "fraud", "zh": "诈骗"},
    "crime": {"en": "crime", "zh": "违法犯罪"},
    "malware": {"en": "malware", "zh": "恶意软件"},
    "sexual": {"en": "sexual content", "zh": "色情"},
    "hate": {"en": "hate", "zh": "仇恨与歧视"},
    "personal_data": {"en": "personal data", "zh": "个人信息"},
    "jailbreak": {"en": "getting around the rules", "zh": "越狱与提示注入"},
    "unavailable": {"en": "the filter is not available", "zh": "过滤器不可用"},
}

_CLASSES: Mapping[str, Mapping[Language, str]] = {
    "A1": {"en": "against core socialist values", "zh": "含有违反社会主义核心价值观的内容"},
    "A1.a": {"en": "subversion", "zh": "煽动颠覆国家政权、推翻社会主义制度"},
    "A1.b": {"en": "national security and image", "zh": "危害国家安全和利益、损害国家形象"},
    "A1.c": {"en": "separatism", "zh": "煽动分裂国家、破坏国家统一和社会稳定"},
    "A1.d": {"en": "terrorism, extremism", "zh": "宣扬恐怖主义、极端主义"},
    "A1.e": {"en": "ethnic hatred", "zh": "宣扬民族仇恨"},
    "A1.f": {"en": "violence, obscenity", "zh": "宣扬暴力、淫秽色情"},
    "A1.g": {"en": "false harmful information", "zh": "传播虚假有害信息"},
    "A1.h": {"en": "otherwise prohibited", "zh": "其他法律、行政法规禁止的内容"},
    "A2": {"en": "discrimination", "zh": "含有歧视性内容"},
    "A2.a": {"en": "ethnicity", "zh": "民族歧视"},
    "A2.b": {"en": "belief", "zh": "信仰歧视"},
    "A2.c": {"en": "nationality", "zh": "国别歧视"},
    "A2.d": {"en": "region", "zh": "地域歧视"},
    "A2.e": {"en": "gender", "zh": "性别歧视"},
    "A2.f": {"en": "age", "zh": "年龄歧视"},
    "A2.g": {"en": "occupation", "zh": "职业歧视"},
    "A2.h": {"en": "health", "zh": "健康歧视"},
    "A2.i": {"en": "other discrimination", "zh": "其他方面歧视"},
    "A3": {"en": "commercial violations", "zh": "商业违法违规"},
    "A3.a": {"en": "intellectual property", "zh": "侵犯他人知识产权"},
    "A3.b": {"en": "business ethics", "zh": "违反商业道德"},
    "A3.c": {"en": "trade secrets", "zh": "泄露他人商业秘密"},
    "A3.d": {"en": "monopoly, unfair competition", "zh": "利用算法、数据、平台等优势，实施垄断和不正当竞争行为"},
    "A3.e": {"en": "other commercial violations", "zh": "其他商业违法违规行为"},
    "A4": {"en": "others' rights", "zh": "侵犯他人合法权益"},
    "A4.a": {"en": "others' health", "zh": "危害他人身心健康"},
    "A4.b": {"en": "portrait rights", "zh": "侵害他人肖像权"},
    "A4.c": {"en": "reputation", "zh": "侵害他人名誉权"},
    "A4.d": {"en": "honour", "zh": "侵害他人荣誉权"},
    "A4.e": {"en": "privacy", "zh": "侵害他人隐私权"},
    "A4.f": {"en": "personal information", "zh": "侵害他人个人信息权益"},
    "A4.g": {"en": "other rights", "zh": "侵犯他人其他合法权益"},
    "A5": {"en": "needs of special services", "zh": "无法满足特定服务类型的安全需求"},
    "A5.a": {"en": "inaccurate", "zh": "内容不准确，严重不符合科学常识或主流认知"},
    "A5.b": {"en": "unreliable", "zh": "内容不可靠，虽不含严重错误，但无法对使用者形成帮助"},
}
"""The classes and groups of GB/T 45654; `app.safety.taxonomy` says what they are."""

_KINDS: Mapping[str, Mapping[Language, str]] = {
    "conversation": {"en": "conversation", "zh": "对话"},
    "message": {"en": "message", "zh": "消息"},
    "template": {"en": "prompt template", "zh": "提示词模板"},
    "account": {"en": "account", "zh": "账号"},
    "key": {"en": "API key", "zh": "API 密钥"},
    "share": {"en": "link", "zh": "链接"},
    "page": {"en": "page", "zh": "页面"},
    "decision": {"en": "decision", "zh": "决定"},
    "appeal": {"en": "request for a review", "zh": "复核申请"},
    "evidence": {"en": "kept text", "zh": "留存的原文"},
    "suspension": {"en": "pause of this account", "zh": "暂停记录"},
}

_OUTGOING: Mapping[str, Mapping[Language, str]] = {
    "question": {"en": "Question", "zh": "问题"},
    "answer": {"en": "Answer", "zh": "回答"},
    "withheld": {"en": "[withheld by the content filter]", "zh": "[已被内容过滤器隐去]"},
    "prepared": {"en": "[written in advance, not by the model]", "zh": "[预先写好的内容，并非模型生成]"},
    "partial": {"en": "[this answer is incomplete]", "zh": "[这个回答不完整]"},
    "untitled": {"en": "Conversation", "zh": "对话"},
}
"""In files and on shared pages."""

_NOTICES: Mapping[MessageState, Mapping[Language, str]] = {
    MessageState.STOPPED: {"en": "You stopped this answer.", "zh": "你停止了这个回答。"},
    MessageState.INTERRUPTED: {
        "en": "The server stopped in the middle of this answer. What was saved is above.",
        "zh": "服务器在回答途中停止，已保存的部分见上方。",
    },
}

_CUT_BY_LENGTH: Mapping[Language, str] = {
    "en": "The answer reached its greatest length.",
    "zh": "回答达到了长度上限。",
}
_KEPT: Mapping[Language, str] = {"en": " Your question was kept.", "zh": "问题已保存。"}
"""Only under an answer: elsewhere an error may well mean that nothing was saved."""

_PAUSED: Mapping[Language, str] = {
    "en": "Too many questions were refused: asking is paused until {until} UTC at the latest.",
    "zh": "多个问题被拒绝，已暂停提问，最迟至 {until}（UTC）。",
}

_PREPARED: Mapping[str, Mapping[Language, str]] = {
    "question": {
        "en": "Written in advance, not by the model.",
        "zh": "这段话是预先写好的，不是模型生成的。",
    },
    "answer": {
        "en": "Written in advance. The model's answer was stopped by the content filter.",
        "zh": "这段话是预先写好的；模型的回答被内容过滤器拦下了。",
    },
}
"""Under a reply or an answer that is not the model's."""


def category_name(category: str | None, language: Language) -> str:
    """Return a filter category's name; one that a policy file invented is shown as it is."""
    if not category:
        return ""
    if category in _CATEGORIES:
        return _CATEGORIES[category][language]
    class_id = category.capitalize().replace("_", ".")
    return f"{class_id} {class_name(class_id, language)}" if class_id in _CLASSES else category.replace("_", " ")


def class_name(class_id: str, language: Language) -> str:
    """Return the name of a class or group of GB/T 45654: `A1.d`, `A1`. Raises KeyError where there is none."""
    return _CLASSES[class_id][language]


def describe(error: ChatError, language: Language) -> str:
    """Return one or two sentences that say what happened and what to do."""
    return sentence(error.code, {"detail": error.detail, **error.data}, language)


def sentence(code: str, data: Mapping[str, object], language: Language) -> str:
    """Return the words for an error code, as it was stored with an answer or sent in an event."""
    variants = (data.get("kind"), data.get("reason"), "empty" if data.get("is_empty") else "")
    names = [f"{code}.{variant}" for variant in variants if variant]
    if "key" in data:  # a template whose fault has no words of its own
        names.append(f"{code}.template")
    names += [code, "internal_error"]
    template = next(_ERRORS[name] for name in names if name in _ERRORS)
    words = dict(data)
    category = str(data.get("category") or "")
    words["category"] = category_name(category, language)
    kind = str(data.get("kind", ""))
    words["kind"] = _KINDS.get(kind, {}).get(language, kind)
    words["percent"] = round(100 * _number(data.get("progress")))
    words["minutes"] = max(1, round(_number(data.get("retry_after_s")) / 60))
    words["span"] = _span(_number(data.get("retry_after_s")), language)
    for number in ("limit", "length", "retry_after_s", "after_s"):
        words[number] = _number(data.get(number))
    return template[language].format_map(_Blanks(words)).replace(".0 ", " ")


def outgoing(
    name: Literal["question", "answer", "withheld", "prepared", "partial", "untitled"], language: Language
) -> str:
    """Return a word of exported files and shared pages."""
    return _OUTGOING[name][language]


def notice(message: Message, language: Language) -> str | None:
    """Return the quiet sentence under a message that did not simply complete; None where there is nothing to say.

    What is said in place of a refused text is a reply, above it: `app.domain.ports.Replies`.
    """
    if message.is_prepared:
        return _PREPARED["question"][language]
    if message.state is MessageState.BLOCKED and message.error_code in {None, ContentBlocked.code}:
        return _PREPARED["answer" if message.receipt else "question"][language]
    if message.state is MessageState.BLOCKED:
        data = {**message.error_data, "category": message.category or ""}
        return sentence(message.error_code or "content_filter", data, language)
    if message.state is MessageState.FAILED:
        return sentence(message.error_code or "internal_error", message.error_data, language) + _KEPT[language]
    if message.state is MessageState.COMPLETE and message.receipt and message.receipt.finish_reason == "length":
        return _CUT_BY_LENGTH[language]
    words = _NOTICES.get(message.state)
    return words[language] if words else None


def pause(message: Message, language: Language) -> str | None:
    """Return what is said under a question whose refusal was one too many; None under any other."""
    until = message.error_data.get("paused_until")
    return _PAUSED[language].format(until=until) if until else None


def waiting(*, position: int, eta_s: float | None, stage: str, progress: float, language: Language) -> str:
    """Return the line that stands where the answer will be."""
    if stage:
        percent = round(100 * progress)
        return f"Loading the model, {percent} %" if language == "en" else f"正在加载模型，{percent} %"
    if language == "en":
        place = f"You are number {position} in the queue" if position > 1 else "You are next"
        return f"{place}, about {max(1, round(eta_s))} s" if eta_s else place
    place = f"排队第 {position} 位" if position > 1 else "下一个就是你"
    return f"{place}，约 {max(1, round(eta_s))} 秒" if eta_s else place


def _span(seconds: float, language: Language) -> str:
    """Return about how long that is, in minutes or hours."""
    minutes = max(1, round(seconds / 60))
    if minutes < 120:  # noqa: PLR2004 - two hours
        return f"{minutes} min" if language == "en" else f"约 {minutes} 分钟"
    hours = round(minutes / 60)
    return f"{hours} h" if language == "en" else f"约 {hours} 小时"


def _number(value: object) -> float | int:
    return value if isinstance(value, int | float) else 0


class _Blanks(dict[str, object]):
    """Leaves nothing half-filled: a value that an error forgot becomes a dash, not a crash."""

    def __missing__(self, key: str) -> str:
        return "–"
