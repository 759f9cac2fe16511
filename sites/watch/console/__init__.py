"""The site's console: what came in, what the models saw, what a person made of it. Patient data; never leaves the site.

    actions     what a person may do, which the watcher's centre does
    values      what the pages know, as plain values: the JSON API gives the same
    reading     one thread and one read-only connection      studies, models_read, queue   read by it
    worklist, study_page, alerts_page, …                      draw it
    viewing     the audit entry that is on the disk before a view is sent
    routes, api   pages, buttons, JSON          serving   starts it

A study in which no model called anything is "looked at"; nothing here says negative or normal.
"""
