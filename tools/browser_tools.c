/* The family browser: Chromium in the agent's computer. */
#include "tools/browser_internal.h"

static const struct tool tools[] = {
    { .name = "browser_navigate",
      .title = "Open a page",
      .description =
          "Open an address in your computer's browser, or go back, forward, reload; says "
          "where it led. Only what the computer's network rules allow, and localhost",
      .fields = browser_navigate_fields,
      .args_size = sizeof(struct browser_navigate_args),
      .flags = TOOL_OPEN_WORLD,
      .handler = browser_navigate },
    { .name = "browser_screenshot",
      .title = "Picture of a page",
      .description = "Picture of the page (browser_act takes its coordinates), or a PDF file of it",
      .fields = browser_screenshot_fields,
      .args_size = sizeof(struct browser_screenshot_args),
      .handler = browser_screenshot },
    { .name = "browser_evaluate",
      .title = "Run JavaScript in a page",
      .description = "Value of JavaScript in the page, as JSON",
      .fields = browser_evaluate_fields,
      .args_size = sizeof(struct browser_evaluate_args),
      .flags = TOOL_DESTROYS | TOOL_OPEN_WORLD,
      .handler = browser_evaluate },
    { .name = "browser_wait",
      .title = "Wait for a page",
      .description = "Wait until all that is given is true",
      .fields = browser_wait_fields,
      .args_size = sizeof(struct browser_wait_args),
      .flags = TOOL_READS,
      .handler = browser_wait_tool },
    { .name = "browser_tabs",
      .title = "Tabs",
      .description = "List, open, close or select tabs",
      .fields = browser_tabs_fields,
      .args_size = sizeof(struct browser_tabs_args),
      .flags = TOOL_OPEN_WORLD,
      .handler = browser_tabs },
    { .name = "browser_console",
      .title = "Console of a page",
      .description = "What the tab's pages logged, and their errors",
      .fields = browser_console_fields,
      .args_size = sizeof(struct browser_look_args),
      .flags = TOOL_READS,
      .handler = browser_console },
    { .name = "browser_network",
      .title = "Requests of a page",
      .description = "Requests of the tab: number, method, status, type, size, time, URL",
      .fields = browser_network_fields,
      .args_size = sizeof(struct browser_look_args),
      .flags = TOOL_READS,
      .handler = browser_network },
};

const struct toolset toolset_browser = {
    .name = "browser", .tools = tools, .count = ARRAY_LEN(tools), .asked = true
};
