"""The one table of verbs: name -> "module:function", the only way hub, viewer and API reach the work of a spoke."""
