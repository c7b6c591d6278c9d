"""What the scripted engine says when no rule fits: a text about itself that shows everything the page can draw."""

DEMO_EN = r"""This answer comes from a **script**, not from a model. Your question was received, but not understood.

The scripted engine is set: `HAINA_ENGINE__URL=scripted:`. It is good for looking at the page. For example:

1. A list, with *emphasis* and `code`
2. A formula, $e^{i\pi} + 1 = 0$, and a larger one:

$$\int_{-\infty}^{\infty} e^{-x^2}\,dx = \sqrt{\pi}$$

3. A program:

```python
def greet(name: str) -> str:
    return f"Hello, {name}!"
```

| part | drawn |
| --- | ---: |
| table | yes |

To talk to a model, unset the address and start again: `haina serve` loads the built-in one.
"""

DEMO_ZH = r"""这段回答来自**脚本**，不是模型生成的。它收到了您的问题，但并不理解。

当前设置的是脚本引擎：`HAINA_ENGINE__URL=scripted:`。它适合用来查看页面效果，例如：

1. 列表，带*强调*和`代码`
2. 公式 $e^{i\pi} + 1 = 0$，以及独立成行的公式：

$$\int_{-\infty}^{\infty} e^{-x^2}\,dx = \sqrt{\pi}$$

3. 一段程序：

```python
def greet(name: str) -> str:
    return f"你好，{name}！"
```

| 部分 | 显示 |
| --- | ---: |
| 表格 | 是 |

要与模型对话，请去掉这个地址后重新启动：`haina serve` 会加载自带的模型。
"""
