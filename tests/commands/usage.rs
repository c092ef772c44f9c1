//! Help, usage errors, manuals, completions: in the reader's language.

use crate::{appliance, run, stderr, stdout};

#[test]
fn help_is_french_unless_the_environment_says_english() {
    let folder = tempfile::tempdir().unwrap();
    let of = |names: &[(&str, &str)], arguments: &[&str]| {
        let output = run(appliance(folder.path()).envs(names.iter().copied()).args(arguments));
        assert_eq!(output.status.code(), Some(0));
        stdout(&output)
    };
    let french = of(&[], &["--help"]);
    assert!(french.contains("Utilisation : ") && french.contains("Codes de sortie :"), "{french}");
    let english = of(&[("LANG", "en_GB.UTF-8")], &["--help"]);
    assert!(english.contains("Usage: ") && english.contains("Exit codes:"), "{english}");
    for word in ["Usage:", "Commands:", "Options:", "Print help", "default:", "possible values"] {
        assert!(!french.contains(word), "« {word} » in French: {french}");
    }
    assert_eq!(of(&[("LANG", "en_GB.UTF-8")], &["--lang", "fr", "--help"]), french);
    assert_eq!(of(&[("LC_ALL", "fr_CD.UTF-8"), ("LANG", "en_GB.UTF-8")], &["--help"]), french);
    assert_eq!(of(&[("DEBROUILLE_LANG", "en"), ("LC_ALL", "fr_CD.UTF-8")], &["--help"]), english);
    let import = of(&[], &["import", "--help"]);
    assert!(import.contains("[FICHIER]") && import.contains("--errors <FICHIER>"), "{import}");
}

#[test]
fn wrong_usage_says_what_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    for (arguments, french, english) in [
        (&["config", "sho"][..], "La commande « sho » n'existe pas.", "Command \"sho\" does not exist."),
        (&["doctor", "--fast"], "« --fast » est inconnu", "\"--fast\" is unknown"),
        (&["init", "--hostname", "a"], "Il manque : --environment", "Missing: --environment"),
        (&["init", "--environment", "test", "--hostname", "a"], "ne peut valoir « test »", "cannot be \"test\""),
        (&["import"], "Il manque :", "Missing:"),
        (&["query", "c", "--limit", "many"], "ne peut valoir « many »", "cannot be \"many\""),
        (&["query", "c", "--limit"], "Il manque une valeur à --limit", "A value is missing for --limit"),
    ] {
        for (language, words) in [("fr", french), ("en", english)] {
            let output = run(appliance(folder.path()).env("DEBROUILLE_LANG", language).args(arguments));
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            assert!(stderr(&output).contains(words), "{arguments:?}: {}", stderr(&output));
            assert_eq!(stdout(&output), "");
            let output = run(appliance(folder.path()).env("DEBROUILLE_LANG", language).args(arguments).arg("--json"));
            let document: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
            assert_eq!((output.status.code(), &document["error"]["exit"]), (Some(2), &2.into()));
            assert!(document["error"]["messages"][0].as_str().unwrap().contains(words), "{document}");
        }
    }
}

#[test]
fn no_command_shows_the_help_and_exits_2() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&mut appliance(folder.path()));
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Utilisation : "), "{}", stderr(&output));
}

#[test]
fn the_manual_comes_in_both_languages() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(appliance(folder.path()).args(["man", "pages", "--json"]));
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let document: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let read = |name: &str| std::fs::read_to_string(folder.path().join("pages").join(name)).unwrap();
    assert!(read("man1/debrouille-appliance.1").contains(".SH \"NAME\""));
    assert!(read("fr/man1/debrouille-appliance.1").contains(".SH \"NOM\""));
    assert!(read("fr/man1/debrouille-appliance-backup-keys-generate.1").contains("paire de clés"));
    let english = std::fs::read_dir(folder.path().join("pages/man1")).unwrap().count();
    let french = std::fs::read_dir(folder.path().join("pages/fr/man1")).unwrap().count();
    assert_eq!(english, french);
    assert_eq!(document["pages"], english + french);
}

#[test]
fn completions_are_written_for_the_shells() {
    let folder = tempfile::tempdir().unwrap();
    for shell in ["bash", "zsh", "fish"] {
        let output = run(appliance(folder.path()).args(["completions", shell]));
        assert_eq!(output.status.code(), Some(0));
        let script = stdout(&output);
        assert!(script.contains("backup") && script.contains("--identity") || shell == "fish", "{shell}");
    }
    let output = run(appliance(folder.path()).args(["completions", "tcsh"]));
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn one_json_document_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["version", "--json"][..], &["config", "show", "--json"], &["config", "check", "--json"]] {
        let output = run(appliance(folder.path()).args(arguments));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap();
    }
    let output = run(appliance(folder.path()).args(["config", "show", "--json", "--config", "absent.toml"]));
    assert_eq!(output.status.code(), Some(2));
    let document: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(document["error"]["exit"], 2);
    assert!(stderr(&output).contains("absent.toml"));
}
